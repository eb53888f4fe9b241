//! Work of one run that another takes over: hard links, or copies where there are none.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts all files below `from` below `to` as well, in place of what is there. Hidden files (locks,
/// half-written ones) and folders that `skip` names are left out. Both folders may be used
/// independently afterwards: nothing in dp2o writes into a finished file, it is replaced.
///
/// # Errors
/// Names the file that cannot be linked or copied.
pub fn link(from: &Path, to: &Path, skip: &[&str]) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot replace `{}`", to.display()))?;
    }
    tree(from, to, skip)
}

fn tree(from: &Path, to: &Path, skip: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create `{}`", to.display()))?;
    let entries =
        fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let plain = name.to_string_lossy();
        if plain.starts_with('.') || skip.contains(&&*plain) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if source.is_dir() {
            tree(&source, &target, skip)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)
                .with_context(|| format!("cannot copy `{}`", source.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_linked_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a/x/1.png", "a/.lock", "a/checkpoints/w", "a/t", "b/old"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), name).unwrap();
        }
        link(&at("a"), &at("b"), &["checkpoints"]).unwrap();
        assert_eq!(fs::read(at("b/x/1.png")).unwrap(), b"a/x/1.png");
        assert!(at("b/t").exists());
        assert!(!at("b/.lock").exists() && !at("b/checkpoints").exists() && !at("b/old").exists());
    }
}
