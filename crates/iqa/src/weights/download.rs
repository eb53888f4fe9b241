//! Downloads that resume, and that are kept only when they are what was expected.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::{file_sha256, short};
use crate::{MetricError, Result};

/// How often a broken-off download goes on by itself before it is an error.
const ATTEMPTS: u32 = 5;

/// The Hugging Face hub, or a mirror of it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Its address, without a slash at the end.
    pub endpoint: String,
    /// A token for repositories that ask for one; sent to this address alone.
    pub token: Option<String>,
    /// Nothing may be downloaded.
    pub offline: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Self { endpoint: "https://huggingface.co".into(), token: None, offline: false }
    }
}

/// How far a download is: bytes there, and bytes in all if the server says.
pub type Watcher<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// A file of a repository, as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
    lfs: Option<Lfs>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Lfs {
    oid: String,
}

impl Listed {
    /// Its SHA-256, for large files.
    pub fn sha256(&self) -> Option<&str> {
        self.lfs.as_ref().map(|lfs| lfs.oid.as_str())
    }
}

impl Hub {
    /// The address of a file of a repository.
    pub(crate) fn url(&self, repository: &str, path: &str) -> String {
        // The one character of our names that an address must not have.
        format!("{}/{repository}/resolve/main/{}", self.endpoint, path.replace('+', "%2B"))
    }

    /// The files of a repository.
    pub(crate) fn list(&self, repository: &str) -> Result<Vec<Listed>> {
        let url = format!("{}/api/models/{repository}/tree/main?recursive=true", self.endpoint);
        let mut response = self.get(&url, repository, 0)?;
        if !response.status().is_success() {
            return Err(failed(repository, &url, format!("the server says {}", response.status())));
        }
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|e| failed(repository, &url, e.to_string()))?;
        let listed: Vec<Listed> =
            serde_json::from_str(&text).map_err(|e| failed(repository, &url, e.to_string()))?;
        Ok(listed.into_iter().filter(|file| file.kind == "file").collect())
    }

    /// Downloads `url` to `target` and answers with its SHA-256, which must begin with each of
    /// `expected`. What an earlier call had left in `TARGET.part` is gone on with.
    ///
    /// # Errors
    /// When the server refuses, the connection stays broken (what is there is kept for the next
    /// call), or the sum is another (nothing is kept).
    pub(crate) fn download(
        &self,
        url: &str,
        target: &Path,
        expected: &[&str],
        watch: Watcher<'_>,
    ) -> Result<String> {
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .map_err(|e| dp2o_schema::Error::io("create folder", folder, e))?;
        let part = part_of(target);
        let mut broken = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(100 << attempt));
            }
            match self.attempt(url, &name, &part, watch)? {
                Ended::Whole => {
                    let found = file_sha256(&part)?;
                    if let Some(other) = expected.iter().find(|sum| !found.starts_with(**sum)) {
                        fs::remove_file(&part)
                            .map_err(|e| dp2o_schema::Error::io("remove", &part, e))?;
                        let detail = format!(
                            "its SHA-256 is {}, expected {}; it was not kept",
                            short(&found, other),
                            other
                        );
                        return Err(failed(&name, url, detail));
                    }
                    fs::rename(&part, target)
                        .map_err(|e| dp2o_schema::Error::io("rename into", target, e))?;
                    return Ok(found);
                }
                Ended::Broken(detail) => broken = detail,
            }
        }
        let kept = fs::metadata(&part).map_or(0, |m| m.len());
        let detail = format!("{broken}; {kept} bytes are kept, and the next call goes on there");
        Err(failed(&name, url, detail))
    }

    /// One connection's worth of bytes.
    fn attempt(&self, url: &str, name: &str, part: &Path, watch: Watcher<'_>) -> Result<Ended> {
        let there = fs::metadata(part).map_or(0, |m| m.len());
        let response = match self.get(url, name, there) {
            Ok(response) => response,
            Err(MetricError::Download { detail, .. }) => return Ok(Ended::Broken(detail)),
            Err(other) => return Err(other),
        };
        let status = response.status();
        let length = header_of(&response, header::CONTENT_LENGTH).and_then(|v| v.parse().ok());
        let (from, total): (u64, Option<u64>) = match status {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let range = header_of(&response, header::CONTENT_RANGE).unwrap_or_default();
                match content_range(&range) {
                    Some((from, total)) if from == there => (there, Some(total)),
                    _ => return Err(failed(name, url, format!("odd Content-Range `{range}`"))),
                }
            }
            // All was there already, or more than there is: the sum will tell.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Ended::Whole),
            status if status.is_server_error() => {
                return Ok(Ended::Broken(format!("the server says {status}")));
            }
            status => return Err(failed(name, url, format!("the server says {status}"))),
        };
        let write_error = |e| MetricError::from(dp2o_schema::Error::io("write", part, e));
        let mut options = OpenOptions::new();
        let mut file: File = if from > 0 {
            options.append(true).open(part).map_err(write_error)?
        } else {
            options.write(true).create(true).truncate(true).open(part).map_err(write_error)?
        };
        let mut body = response.into_body().into_reader();
        let (mut done, mut buffer) = (from, vec![0; 1 << 18]);
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    file.write_all(&buffer[..n]).map_err(write_error)?;
                    done += n as u64;
                }
                Err(e) => return Ok(Ended::Broken(format!("the connection broke off: {e}"))),
            }
            watch(done, total);
        }
        file.sync_all().map_err(write_error)?;
        Ok(match total {
            Some(total) if done < total => {
                Ended::Broken(format!("the connection broke off at {done} of {total} bytes"))
            }
            _ => Ended::Whole,
        })
    }

    fn get(&self, url: &str, name: &str, from: u64) -> Result<Response<Body>> {
        if self.offline {
            return Err(failed(name, url, "offline mode is on".into()));
        }
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut request = agent.get(url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.starts_with(&self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|e| failed(name, url, e.to_string()))
    }
}

enum Ended {
    /// The server has nothing more to send.
    Whole,
    /// For this reason, there may be more.
    Broken(String),
}

/// Where a download stands until it is whole.
fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn header_of(response: &Response<Body>, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(String::from)
}

/// First byte and size of `bytes FIRST-LAST/SIZE`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

fn failed(file: &str, url: &str, detail: String) -> MetricError {
    MetricError::Download { file: file.into(), url: url.into(), detail }
}
