//! Drivers of a newer kernel, made to fit an older one: the newer kernel's source with a few lines changed by script.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cache,
    progress::say,
    setup::{
        Archive, apt,
        kernel::{Series, Unpacked},
        modules::folder,
        packages,
    },
    workspace,
};

/// A driver of another kernel, and its changes for an older one.
#[derive(Debug)]
pub(super) struct Backport {
    /// The older series, for which it is built.
    to: &'static str,
    /// The newer series, from which it is taken.
    from: &'static str,
    /// Name of the module.
    pub(super) name: &'static str,
    /// Its one source file, in the kernel tree.
    source: &'static str,
    /// Header with the definitions that the older kernel lacks, in the checkout.
    header: &'static str,
    /// Changes of the source. The old text of each must be found exactly once, else the source is not the expected one.
    changes: &'static [Change],
}

/// The old text and the new.
type Change = (&'static str, &'static str);

const BACKPORTS: &[Backport] = &[Backport {
    to: "6.1",
    from: "6.12",
    name: "mtty",
    source: "samples/vfio-mdev/mtty.c",
    header: "lab/modules/mtty-6.1/compat.h",
    changes: &[
        ("#include <linux/anon_inodes.h>\n", "#include <linux/anon_inodes.h>\n#include \"compat.h\"\n"),
        // 6.2: MIG_DATA_SIZE, and the core frees what vfio_alloc_device() gave.
        ("static int mtty_get_data_size(", "static int __maybe_unused mtty_get_data_size("),
        ("\t.migration_get_data_size = mtty_get_data_size,\n", ""),
        (
            "&mdev_avail_ports);\n\tkfree(mdev_state->vconfig);\n",
            "&mdev_avail_ports);\n\tkfree(mdev_state->vconfig);\n\tvfio_free_device(vdev);\n",
        ),
        // 6.2 and 6.6: iommufd.
        ("\t.bind_iommufd\t= vfio_iommufd_emulated_bind,\n", ""),
        ("\t.unbind_iommufd\t= vfio_iommufd_emulated_unbind,\n", ""),
        ("\t.attach_ioas\t= vfio_iommufd_emulated_attach_ioas,\n", ""),
        ("\t.detach_ioas\t= vfio_iommufd_emulated_detach_ioas,\n", ""),
    ],
}];

/// Returns the backports for a series.
pub(super) fn of(series: &Series) -> impl Iterator<Item = &'static Backport> {
    let to = series.name;
    BACKPORTS.iter().filter(move |backport| backport.to == to)
}

impl Backport {
    /// Returns the path of the newer kernel's file, kept with the older kernel.
    fn kept(&self, unpacked: &Unpacked) -> PathBuf {
        unpacked.dir.join("backports").join(self.from)
    }

    /// Gets the newer kernel's source: from the cache if that kernel is there, else its package.
    pub(super) fn fetch(&self, archive: &Archive<'_>, unpacked: &Unpacked) -> Result<()> {
        folder(archive.cache, &self.kept(unpacked), |dir| {
            let file = dir.join(self.source);
            let there = cache::root()?.join("kernels").join(self.from).join("source").join(self.source);
            if there.is_file() {
                let parent = file.parent().context("a file without a folder")?;
                fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
                fs::copy(&there, &file).with_context(|| format!("cannot copy {}", there.display()))?;
                return Ok(());
            }
            let apt = archive.apt()?;
            let name = format!("linux-source-{}", self.from);
            let offered = apt.packages(&name)?.into_iter().filter(|package| package.name == name);
            let newest = apt::newest(offered).with_context(|| {
                format!(
                    "the Debian mirror offers no {name}, from which {} is taken for {}",
                    self.name, self.to
                )
            })?;
            say(&format!("kernel {}: {} of {} is taken from {name}", self.to, self.name, self.from));
            for deb in apt.download(dir, &[newest])? {
                packages::unpack_source(&deb, dir)?;
                fs::remove_file(deb).context("cannot remove a package file")?;
            }
            Ok(())
        })
    }

    /// Returns the names and contents of the files from which the module is built.
    pub(super) fn files(&self, unpacked: &Unpacked) -> Result<Vec<(OsString, Vec<u8>)>> {
        let source = self.kept(unpacked).join(self.source);
        let text =
            fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let text = changed(&text, self.changes)
            .with_context(|| format!("{} of {} cannot be made to fit {}", self.source, self.from, self.to))?;
        let header = workspace::root().join(self.header);
        let compat = fs::read(&header).with_context(|| format!("cannot read {}", header.display()))?;
        let name = header.file_name().unwrap_or_default().to_owned();
        Ok(vec![(name, compat), (format!("{}.c", self.name).into(), text.into_bytes())])
    }
}

/// Makes all changes; an error names the first that does not apply.
fn changed(text: &str, changes: &[Change]) -> Result<String> {
    let mut text = text.to_owned();
    for (old, new) in changes {
        let found = text.matches(old).count();
        ensure!(
            found == 1,
            "\"{}\" is there {found} times instead of once: the source has changed, adapt \
             xtask/src/setup/backport.rs",
            old.trim()
        );
        text = text.replace(old, new);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_must_match_exactly_once() {
        assert_eq!(changed("a\nb\nc\n", &[("b\n", ""), ("a", "A")]).unwrap(), "A\nc\n");
        let error = changed("a b b", &[("a", "x"), ("b", "y")]).unwrap_err().to_string();
        assert!(error.contains("\"b\" is there 2 times"), "{error}");
        let error = changed("a", &[("a", "x"), ("a", "y")]).unwrap_err().to_string();
        assert!(error.contains("0 times"), "{error}");
    }
}
