//! `dp2o score` and `dp2o weights` as users call them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use support::{dp2o, drawing, fail, succeed, text};

/// A folder of references and one with two candidates for each.
fn groups(root: &Path) {
    for (i, name) in ["a", "b"].into_iter().enumerate() {
        let at = |path: String| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        drawing(64, 64, i as u32).save(at(format!("hr/{name}.png"))).unwrap();
        for candidate in 0..2 {
            let picture = drawing(64, 64, i as u32 + candidate);
            picture.save(at(format!("sr/{name}/00{candidate}.png"))).unwrap();
        }
    }
}

fn rows(bytes: &[u8]) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(bytes);
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn candidates_are_matched_by_the_name_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    groups(dir.path());
    drawing(64, 64, 5).save(dir.path().join("hr/c.png")).unwrap();
    let score = |extra: &[&str]| {
        let mut command = dp2o();
        command.args(["score", "--metrics", "psnr,ssim"]).args(extra);
        command.arg("--reference").arg(dir.path().join("hr")).arg(dir.path().join("sr"));
        command
    };
    let said = fail(&mut score(&[]));
    assert!(said.contains("--groups"), "{said}");
    let output = succeed(&mut score(&["--groups"]));
    let found = rows(&output.stdout);
    assert_eq!(found.len(), 8);
    let psnr: Vec<f64> = found
        .iter()
        .filter(|row| row["metric"] == "psnr")
        .map(|row| row["value"].parse().unwrap())
        .collect();
    // The first candidate of each group is its reference.
    assert_eq!((psnr[0], psnr[2]), (80.0, 80.0));
    assert!(psnr[1] < 40.0 && psnr[3] < 40.0);
    let said = text(&output);
    assert!(said.contains("c.png") && said.contains("95 %"), "{said}");
    let output = succeed(&mut score(&["--groups", "--format", "table"]));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("image") && table.contains("psnr ↑"), "{table}");
    let first = |line: &&str| line.contains("000.png  80.0000");
    assert_eq!(table.lines().filter(first).count(), 2, "{table}");
    assert!(table.lines().any(|line| line.starts_with("mean")));
}

#[test]
fn a_table_of_pictures_is_read_and_a_saved_one_written() {
    let dir = tempfile::tempdir().unwrap();
    groups(dir.path());
    let list = dir.path().join("list.csv");
    fs::write(&list, "image,reference\nsr/a/001.png,hr/a.png\nsr/b/000.png,\n").unwrap();
    let save = dir.path().join("rows.parquet");
    let mut command = dp2o();
    command.args(["score", "--metrics", "psnr-y,piqe", "--manifest"]).arg(&list);
    let said = fail(command.arg("--save").arg(&save)); // the second picture has no reference
    assert!(said.contains("1 of 4 values"), "{said}");
    let found: Vec<dp2o_iqa::scoring::PictureRow> = dp2o_schema::table::read(&save).unwrap();
    let missing: Vec<bool> = found.iter().map(|row| row.value.is_none()).collect();
    assert_eq!(missing, [false, false, true, false]);
    assert!(!dir.path().join("rows.parquet.finished").exists());
    fs::write(&list, "picture\nsr/a/001.png\n").unwrap();
    let said = fail(dp2o().args(["score", "--metrics", "piqe", "--manifest"]).arg(&list));
    assert!(said.contains("list.csv") && said.contains("image,reference"), "{said}");
}

#[test]
fn a_call_goes_on_from_what_a_killed_one_had_finished() {
    let dir = tempfile::tempdir().unwrap();
    groups(dir.path());
    let save = dir.path().join("rows.csv");
    let score = || {
        let mut command = dp2o();
        command.args(["score", "--metrics", "piqe"]).arg(dir.path().join("sr"));
        succeed(command.arg("--save").arg(&save))
    };
    score();
    let whole = rows(&fs::read(&save).unwrap());
    // As a killed call leaves it: some values in the file beside, no result.
    fs::remove_file(&save).unwrap();
    let hash = blake3::hash(&fs::read(dir.path().join("sr/a/000.png")).unwrap());
    let line = format!(
        "{{\"picture\":\"{hash}\",\"reference\":\"\",\"metric\":\"piqe\",\"variant\":\"\",\"value\":7.5}}\n"
    );
    fs::write(dir.path().join("rows.csv.finished"), line).unwrap();
    let said = text(&score());
    assert!(said.contains("1 values of an earlier call"), "{said}");
    let again = rows(&fs::read(&save).unwrap());
    assert_eq!(again[0]["value"], "7.5");
    assert_eq!(again[1..], whole[1..]);
}

#[test]
fn what_does_not_fit_into_memory_is_said_before_anything_is_scored() {
    let dir = tempfile::tempdir().unwrap();
    drawing(64, 64, 0).save(dir.path().join("a.png")).unwrap();
    let mut command = dp2o();
    command.args(["score", "--metrics", "maniqa", "--memory", "200M"]);
    let said = fail(command.arg(dir.path().join("a.png")));
    assert!(said.contains("maniqa needs about") && said.contains("200 MB"), "{said}");
    let said = fail(dp2o().args(["score", "--memory", "lots", "a.png"]));
    assert!(said.contains("1.5GiB"), "{said}");
    let mut command = dp2o();
    command.args(["score", "--metrics", "piqe", "--memory", "200M"]);
    succeed(command.arg(dir.path().join("a.png")));
}

#[test]
fn what_a_preset_lacks_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("a.png");
    drawing(64, 64, 0).save(&picture).unwrap();
    let mut command = dp2o();
    command.env("DP2O_CACHE", dir.path().join("cache"));
    command.args(["score", "--metrics", "paper-nr", "--reference"]).arg(&picture);
    let said = fail(command.arg(&picture));
    for part in [
        "ckpt_koniq10k.pt",
        "RN50.pt",
        "CLIP-IQA+_learned_prompts-603f3273.pth",
        "one-align",
        "no commercial use",
        "dp2o weights fetch maniqa musiq clipiqa+ topiq-nr afine-nr qalign",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// A server that answers every request with `body`.
fn serve(body: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

#[test]
fn licences_are_accepted_before_anything_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |arguments: &[&str]| {
        let mut command = dp2o();
        command.env("DP2O_CACHE", dir.path()).env("HF_ENDPOINT", serve(b"weights"));
        command.env("TORCH_HOME", dir.path().join("torch")).env("HF_HOME", dir.path().join("hf"));
        command.env_remove("HF_HUB_OFFLINE").arg("weights").args(arguments);
        command
    };
    let said = fail(&mut weights(&["fetch", "maniqa"]));
    assert!(said.contains("no commercial use") && said.contains("--accept"), "{said}");
    assert!(!dir.path().join("weights").exists());
    let said = fail(&mut weights(&["fetch", "maniqa", "--offline"]));
    assert!(said.contains("offline") && said.contains("ckpt_koniq10k.pt"), "{said}");
    // This one has no published sum; the other's digits are not those of the server's answer.
    succeed(&mut weights(&["fetch", "maniqa", "--accept"]));
    let path = dir.path().join("weights/ckpt_koniq10k.pt");
    assert_eq!(fs::read(&path).unwrap(), b"weights");
    let said = fail(&mut weights(&["fetch", "maniqa", "musiq", "--accept"]));
    assert!(said.contains("there already") && said.contains("e95806b9"), "{said}");

    let said = text(&succeed(&mut weights(&["list", "maniqa", "musiq"])));
    assert!(said.contains("here") && said.contains("109 MB"), "{said}");
    let said = text(&succeed(&mut weights(&["verify"])));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("as it was fetched"), "{said}");
    fs::write(&path, b"Weights").unwrap();
    let said = fail(&mut weights(&["verify", "maniqa"]));
    assert!(said.contains("DAMAGED") && said.contains("ckpt_koniq10k.pt"), "{said}");
    let said = fail(&mut weights(&["fetch", "maniqua"]));
    assert!(said.contains("maniqua") && said.contains("maniqa"), "{said}");
}

#[test]
fn a_metric_is_verified_on_given_tensors() {
    let said = fail(dp2o().args(["verify", "nonsense", "w", "f"]));
    assert!(said.contains("denoise") && said.contains("topiq-nr"), "{said}");
    let said = fail(dp2o().args(["verify", "psnr", "w", "f"]));
    assert!(said.contains("has no weights"), "{said}");
}

#[test]
fn presets_stand_in_the_configuration_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dp2o();
    command.args(["run", "--print-config", "--set", "score.metrics=[\"builtin\"]"]);
    command.args(["--set", "curate.reward.full_reference=[\"builtin-fr\"]"]);
    command.args(["--set", "curate.reward.no_reference=[\"builtin-nr\"]"]);
    let config = succeed(command.arg("--out").arg(dir.path().join("run"))).stdout;
    let config: toml::Table = String::from_utf8(config).unwrap().parse().unwrap();
    let names = |value: &toml::Value| -> Vec<String> { value.clone().try_into().unwrap() };
    let reward = &config["curate"]["reward"];
    assert_eq!(names(&reward["no_reference"]), ["niqe", "piqe"]);
    let both = [names(&reward["full_reference"]), names(&reward["no_reference"])].concat();
    assert_eq!(names(&config["score"]["metrics"]), both);
}
