//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

/// Writes `bytes` to `path`: by way of a file beside it, which takes its name once it is whole and on
/// the disk. What was there before stays where that fails.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let shown = path.display();
    let Some(name) = path.file_name() else { bail!("write {shown}: this names no file") };
    let mut new = name.to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = Unfinished(path.with_file_name(new));
    let put = || -> std::io::Result<()> {
        let mut file = File::create_new(&new.0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new.0, path)
    };
    put().map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "\nmake room, or name another disk"
            }
            ErrorKind::NotFound => "\nits folder is not there: make it first",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "\nname a folder that you may write to"
            }
            _ => "",
        };
        anyhow!("write {shown}: {error}{remedy}")
    })
}

/// Makes the folder `path`.
pub(crate) fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make the folder {}", path.display()))
}

/// A file that goes unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
