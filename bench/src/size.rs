//! How large the library is that users install.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run;
use crate::servers::Scratch;
use crate::setup::{self, LIBRARY, Setup};

pub struct LibrarySize {
    pub bytes: u64,
    pub stripped: bool,
    /// The build profile, by the name of its directory.
    pub profile: String,
}

impl fmt::Display for LibrarySize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stripped =
            if self.stripped { "stripped" } else { "not stripped (strip is not installed)" };
        write!(out, "{} bytes, {stripped}, profile {}", self.bytes, self.profile)
    }
}

/// The size of the `dist` build, or else of the build that was measured, after `strip` on a copy.
pub fn library(setup: &Setup) -> Result<LibrarySize, String> {
    let file = candidates(setup).into_iter().find(|file| file.is_file());
    let file = file.ok_or_else(|| format!("there is no {LIBRARY}"))?;
    let profile =
        file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let described = |error: std::io::Error| format!("{}: {error}", file.display());
    let Some(strip) = setup::find("strip") else {
        let bytes = fs::metadata(&file).map_err(described)?.len();
        return Ok(LibrarySize { bytes, stripped: false, profile });
    };
    let scratch = Scratch::new()?;
    let copy = scratch.path().join(LIBRARY);
    fs::copy(&file, &copy).map_err(described)?;
    let mut command = setup::native(&strip);
    command.arg(&copy);
    run::bounded(command, Duration::from_secs(30))?;
    let bytes = fs::metadata(&copy).map_err(described)?.len();
    Ok(LibrarySize { bytes, stripped: true, profile })
}

fn candidates(setup: &Setup) -> Vec<PathBuf> {
    let Ok(executable) = std::env::current_exe() else {
        return Vec::new();
    };
    let release = executable.with_file_name(LIBRARY);
    let dist =
        executable.parent().and_then(Path::parent).map(|target| target.join("dist").join(LIBRARY));
    dist.into_iter().chain(setup.library().map(PathBuf::from)).chain([release]).collect()
}
