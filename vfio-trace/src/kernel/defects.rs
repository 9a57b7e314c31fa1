//! Standing of the running kernel with respect to known kernel defects.

use vfio_trace_common::defects::{Defect, Standing};

use super::KernelFiles;

/// The kernel's version strings, from which known defects are told. Read once by the commands that exercise a device or
/// check the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelVersion {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
}

impl KernelVersion {
    /// Reads both strings; they stay empty if they cannot be read, which leaves every defect unknown.
    pub fn read(files: &KernelFiles) -> Self {
        let line = |name| files.line(name).unwrap_or_default();
        Self { release: line("/proc/sys/kernel/osrelease"), version: line("/proc/sys/kernel/version") }
    }

    /// Returns the kernel's standing with respect to a defect.
    pub fn standing(&self, defect: &Defect) -> Standing {
        defect.standing(&self.release, &self.version)
    }

    /// Returns the standing in a sentence, for users who must avoid the defect; `None` if the kernel is known not to
    /// have it.
    pub fn suspicion(&self, defect: &Defect) -> Option<String> {
        let Self { release, .. } = self;
        let name = if release.is_empty() { "this kernel" } else { release.as_str() };
        let mended = defect.mended();
        match self.standing(defect) {
            Standing::Older | Standing::Mended => None,
            Standing::Affected => Some(format!("{name} has this defect (mended in {mended})")),
            Standing::Unknown => Some(format!(
                "whether {name} has this defect cannot be told (Linux has it from {}, mended in {mended}; a distribution may have \
                 taken either)",
                defect.since
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use vfio_trace_common::defects::NEXT_STATE_LOOP;

    use super::*;
    use crate::kernel::source::testing::TestRoot;

    #[test]
    fn only_what_is_known_to_be_mended_is_trusted() {
        let root = TestRoot::new();
        let suspicion = |release: &str| {
            root.write("proc/sys/kernel/osrelease", release).write("proc/sys/kernel/version", "#1 SMP\n");
            KernelVersion::read(&root.files()).suspicion(&NEXT_STATE_LOOP)
        };
        assert_eq!(suspicion("7.3.4\n"), None);
        assert_eq!(suspicion("6.1.9\n"), None);
        let affected = suspicion("6.12.95\n").unwrap();
        assert!(affected.starts_with("6.12.95 has this defect (mended in 7.2,"), "{affected}");
        let unknown = suspicion("6.8.0-45-generic\n").unwrap();
        assert!(unknown.starts_with("whether 6.8.0-45-generic has this defect cannot be told"), "{unknown}");
        assert!(KernelVersion::default().suspicion(&NEXT_STATE_LOOP).is_some(), "silence is no word for it");
    }
}
