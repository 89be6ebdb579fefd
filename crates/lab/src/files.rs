//! Files below a directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// How deep directories are followed; the deepest of a device is `home/NAME/log/file`.
const DEPTH_MAX: usize = 8;

/// All plain files below `dir`, sorted; links and sockets are left out.
///
/// # Errors
/// When a directory cannot be read.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    gather(dir, DEPTH_MAX, &mut files)?;
    files.sort();
    Ok(files)
}

fn gather(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            gather(&entry.path(), depth - 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
