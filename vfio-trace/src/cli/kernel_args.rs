//! Options about the kernel that several verbs share.

use std::path::PathBuf;

use super::error::{CliError, INPUT};
use crate::kernel::KernelFiles;

/// Options for the files with facts about the kernel; to be flattened into a verb's arguments.
#[derive(Debug, Default, clap::Args)]
pub(super) struct KernelArgs {
    /// Directory with BTF that this kernel lacks: `vmlinux` and a file per module (`vfio` or `vfio.ko`), raw or ELF.
    #[arg(long, value_name = "DIR")]
    pub(super) btf: Option<PathBuf>,
}

impl KernelArgs {
    /// Returns the running kernel's files, and those of `--btf`.
    ///
    /// # Errors
    ///
    /// [`CliError`] (input damaged) if the directory cannot be read or is known to be of another kernel.
    pub(super) fn files(&self) -> Result<KernelFiles, CliError> {
        let Some(dir) = &self.btf else { return Ok(KernelFiles::default()) };
        let files = KernelFiles::default().with_btf_dir(dir);
        if let Err(why) = files.check_btf_dir() {
            let what = format!("cannot use --btf {}", dir.display());
            let todo =
                "give BTF of the kernel that runs here, or leave --btf out: what is lost then, doctor tells";
            let mut error = CliError::failed(what, why, todo);
            error.code = INPUT;
            return Err(error);
        }
        Ok(files)
    }
}
