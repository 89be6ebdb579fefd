//! `man`: the manual pages, made from the same definition as `--help`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::CommandFactory as _;
use handfast::{Cause, Error};

use super::Context;
use crate::args::Cli;

/// Prints the main page, or writes the page of every command into `dir`.
pub(super) fn run(context: &Context, dir: Option<&Path>) -> Result<u8, Error> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let failed = |error| Error::because(Cause::Internal, error);
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
        context.out.bytes(&page);
        return Ok(0);
    };
    write_all(dir).map_err(|error| {
        Error::because(Cause::Usage, format!("the pages could not be written to {}: {error}", dir.display()))
            .with_hint("name a folder that is there and may be written to")
    })?;
    Ok(0)
}

fn write_all(dir: &Path) -> std::io::Result<()> {
    // Made apart, so that only pages of ours change their mode.
    let made = tempfile::tempdir()?;
    clap_mangen::generate_to(Cli::command(), made.path())?;
    for page in std::fs::read_dir(made.path())? {
        let page = page?;
        let target = dir.join(page.file_name());
        std::fs::copy(page.path(), &target)?;
        // Everybody may read a manual.
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
