//! BTF from a directory that the user gives, for kernels that have none: `--btf DIR`.
//!
//! DIR has `vmlinux` and a file per module, `vfio` or `vfio.ko`: raw BTF, or ELF with a `.BTF` section. BTF that the
//! running kernel shows in /sys/kernel/btf is always preferred, because it is certain to be right. A wrong file would
//! give wrong offsets, so everything that can be compared with the running kernel is compared: build ids, and all of
//! vmlinux's BTF.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    btf::elf::{ELF_MAGIC, btf_of_elf, build_id},
    source::{FileError, KernelFiles, MAX_LEN, read, read_open},
};

/// Finds the file of a module, or of `vmlinux`, in DIR.
///
/// `vfio-pci-core.ko` belongs to the module that the kernel calls `vfio_pci_core`.
pub(super) fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let dashed = name.replace('_', "-");
    let mut there = [name.to_owned(), format!("{name}.ko"), dashed.clone(), format!("{dashed}.ko")]
        .map(|file| dir.join(file))
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok());
    let first = there.next()?;
    // A build tree has directories of the modules' names. If there is nothing else, the user is told.
    if first.is_dir() { there.find(|path| !path.is_dir()).or(Some(first)) } else { Some(first) }
}

/// Reads raw BTF of a module, or of `vmlinux`, from DIR, if the file is not known to be of another kernel.
pub(super) fn load(files: &KernelFiles, dir: &Path, name: &str) -> Result<Vec<u8>, FileError> {
    let Some(path) = find(dir, name) else {
        let packed = ["xz", "gz", "zst"].map(|end| dir.join(format!("{}.ko.{end}", name.replace('_', "-"))));
        let why = match packed.iter().find(|path| path.is_file()) {
            Some(packed) => format!("{} is packed: unpack it (xz -dk, gzip -dk, zstd -d)", packed.display()),
            None => "no such file, and none with .ko at its end".to_owned(),
        };
        let cause = io::Error::new(io::ErrorKind::NotFound, why);
        return Err(FileError { path: dir.join(name), cause });
    };
    let failed = |cause| FileError { path: path.clone(), cause };
    let mut file = open(&path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref().take(ELF_MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if start != ELF_MAGIC {
        file.rewind().map_err(failed)?;
        return read_open(file, &path);
    }
    let found = btf_of_elf(|offset, len| {
        if len as u64 > MAX_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a section has more than 256 MiB"));
        }
        let mut bytes = Vec::new();
        // The buffer grows with the bytes read, not with the length that the file claims.
        let mut source = OffsetReader { file: &file, offset }.take(len as u64);
        source.read_to_end(&mut bytes)?;
        if bytes.len() == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    })
    .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
    match (found.build_id, running_id(files, name)) {
        (Some(ours), Some(running)) if ours != running => {
            let why = format!(
                "it is of another build: its build id is {}, that of the running {} is {}",
                hex(&ours),
                if name == "vmlinux" { "kernel".to_owned() } else { format!("module {name}") },
                hex(&running)
            );
            Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)))
        },
        _ => Ok(found.btf),
    }
}

/// Opens a regular file; does not wait for anything else that may have its name, such as a FIFO or a device.
fn open(path: &Path) -> io::Result<File> {
    let file =
        File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    // That nothing but a file will do is the point.
    #[expect(clippy::filetype_is_file, reason = "devices and FIFOs are refused")]
    let regular = kind.is_file();
    if regular { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")) }
}

/// Compares DIR with the running kernel as a whole.
pub(super) fn check(files: &KernelFiles, dir: &Path) -> Result<(), FileError> {
    // An empty or misspelt directory is a mistake; that some module has no file is found out later.
    std::fs::read_dir(dir).map_err(|cause| FileError { path: dir.to_owned(), cause })?;
    if find(dir, "vmlinux").is_none() {
        return Ok(());
    }
    let given = load(files, dir, "vmlinux")?;
    match files.own_btf("vmlinux") {
        Ok(own) if own != given => Err(FileError {
            path: find(dir, "vmlinux").unwrap_or_else(|| dir.to_owned()),
            cause: io::Error::new(
                io::ErrorKind::InvalidData,
                "it is of another kernel: /sys/kernel/btf/vmlinux differs, so the modules' files beside it would \
                 give wrong offsets",
            ),
        }),
        _ => Ok(()),
    }
}

/// Reads the build id of the running kernel, or of a loaded module.
fn running_id(files: &KernelFiles, name: &str) -> Option<Vec<u8>> {
    let notes = if name == "vmlinux" {
        "/sys/kernel/notes".to_owned()
    } else {
        format!("/sys/module/{name}/notes/.note.gnu.build-id")
    };
    build_id(&read(&files.path(&notes)).ok()?).map(<[u8]>::to_vec)
}

fn hex(bytes: &[u8]) -> String {
    // Eight digits tell builds apart, and fit a line.
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A reader of a file from an offset on that leaves the file's position alone.
struct OffsetReader<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for OffsetReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use crate::kernel::{
        btf::elf::tests::{elf, note},
        source::testing::TestRoot,
    };

    #[test]
    fn raw_and_elf_files_are_found_by_the_modules_name() {
        let root = TestRoot::new();
        root.write("d/vfio", "raw")
            .write("d/vfio-pci-core.ko", elf(&[(".BTF", 0, b"core")]))
            .write("d/mtty.ko.xz", "x")
            .write("d/bad.ko", elf(&[]));
        let files = root.files().with_btf_dir(root.path().join("d"));
        assert_eq!(files.btf("vfio").unwrap(), b"raw");
        assert_eq!(files.btf("vfio_pci_core").unwrap(), b"core");
        assert!(files.btf("mtty").unwrap_err().to_string().contains("mtty.ko.xz is packed"));
        assert!(files.btf("bad").unwrap_err().to_string().contains("no .BTF section"));
        assert!(files.btf("none").unwrap_err().to_string().contains("no such file"));
        files.check_btf_dir().unwrap();
        let error = root.files().with_btf_dir("/nowhere/at/all").check_btf_dir().unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_directory_does_not_hide_a_file() {
        let root = TestRoot::new();
        root.write("d/mdev/Makefile", "").write("d/mdev.ko", elf(&[(".BTF", 0, b"types")]));
        let files = root.files().with_btf_dir(root.path().join("d"));
        assert_eq!(files.btf("mdev").unwrap(), b"types");
        root.remove("d/mdev.ko");
        assert!(files.btf("mdev").unwrap_err().to_string().ends_with("d/mdev: it is a directory"));
    }

    #[test]
    fn only_regular_files_are_read() {
        use std::fs;

        use rustix::fs::{FileType, Mode, mknodat};
        let root = TestRoot::new();
        let files = root.files().with_btf_dir(root.path().join("d"));
        let vmlinux = root.path().join("d/vmlinux");
        let refusal = || {
            let error = files.check_btf_dir().unwrap_err().to_string();
            let btf = files.btf("vmlinux").unwrap_err().to_string();
            assert!(btf.contains("d/vmlinux"), "{btf}");
            error
        };
        fs::create_dir_all(&vmlinux).unwrap();
        assert!(refusal().ends_with("d/vmlinux: it is a directory"), "{}", refusal());
        fs::remove_dir(&vmlinux).unwrap();
        root.link("d/vmlinux", "/dev/zero");
        assert!(refusal().ends_with("it is no regular file"), "{}", refusal());
        root.remove("d/vmlinux").link("d/vmlinux", "nowhere");
        assert!(refusal().contains("No such file"), "{}", refusal());
        root.remove("d/vmlinux");
        // A FIFO without a writer: opening it would wait for one.
        mknodat(rustix::fs::CWD, &vmlinux, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(refusal().ends_with("it is no regular file"), "{}", refusal());
        root.remove("d/vmlinux");
        fs::File::create(&vmlinux).unwrap().set_len(1 << 40).unwrap();
        assert!(refusal().contains("more than 256 MiB"), "{}", refusal());
    }

    #[test]
    fn files_of_another_kernel_are_refused() {
        let root = TestRoot::new();
        root.write("d/vmlinux", "its types").write("sys/kernel/btf/vmlinux", "its types");
        let files = root.files().with_btf_dir(root.path().join("d"));
        files.check_btf_dir().unwrap();
        root.write("sys/kernel/btf/vmlinux", "other types");
        let error = files.check_btf_dir().unwrap_err().to_string();
        assert!(error.contains("another kernel"), "{error}");

        let id = note("GNU", 3, &[0xab; 20]);
        root.write("sys/module/vfio/notes/.note.gnu.build-id", &id);
        root.write("d/vfio.ko", elf(&[(".note.gnu.build-id", 0, &id), (".BTF", 0, b"types")]));
        assert_eq!(files.btf("vfio").unwrap(), b"types");
        root.write("sys/module/vfio/notes/.note.gnu.build-id", note("GNU", 3, &[0xcd; 20]));
        let error = files.btf("vfio").unwrap_err().to_string();
        assert!(error.contains("abababab") && error.contains("cdcdcdcd"), "{error}");
    }

    #[test]
    fn the_running_kernels_own_is_preferred() {
        let root = TestRoot::new();
        root.write("d/vfio", "copy").write("sys/kernel/btf/vfio", "own");
        let files = root.files().with_btf_dir(root.path().join("d"));
        assert_eq!(files.btf("vfio").unwrap(), b"own");
        assert_eq!(files.btf_path("vfio"), root.path().join("sys/kernel/btf/vfio"));
        root.remove("sys/kernel/btf/vfio");
        assert_eq!(files.btf("vfio").unwrap(), b"copy");
        assert_eq!(files.btf_path("vfio"), root.path().join("d/vfio"));
    }
}
