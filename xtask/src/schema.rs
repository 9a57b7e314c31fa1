//! `cargo xtask schema`: the files of docs/schema, made from the tool's types.

use std::{collections::BTreeMap, fs, process::Command, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{cmd, progress::say, setup, workspace};

/// Arguments of `schema`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tell which files are not what the types say, and fail if one is.
    #[arg(long)]
    check: bool,
}

/// `cargo xtask schema`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    setup::for_build()?;
    let folder = workspace::root().join("docs/schema");
    let mut differ = 0;
    for (name, text) in made()? {
        let path = folder.join(&name);
        if fs::read_to_string(&path).unwrap_or_default() == text {
            continue;
        }
        differ += 1;
        if args.check {
            say(&format!("schema: docs/schema/{name} is not what the types say"));
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            say(&format!("schema: docs/schema/{name} written"));
        }
    }
    if differ == 0 {
        say("schema: all files of docs/schema are what the types say");
    }
    Ok(if args.check && differ > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Makes the files, by an example of the tool: xtask itself is not linked with it.
fn made() -> Result<BTreeMap<String, String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "-p", "vfio-trace", "--example", "schemas"]);
    let printed = cmd::stdout(cargo.current_dir(workspace::root()))?;
    serde_json::from_str(&printed).context("the example prints something else")
}
