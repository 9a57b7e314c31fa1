//! The mounts of this process's namespace, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// Device number, `major:minor`: FUSE mounts have one each.
    pub(super) device: String,
    /// Mount point.
    pub(super) point: PathBuf,
    /// File system type.
    pub(super) kind: String,
}

/// Returns all mounts of this process's namespace, those on top of others after them.
pub(super) fn all() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Returns the mount that is seen at `point`, if a mount begins there.
pub(super) fn at(point: &Path) -> io::Result<Option<MountEntry>> {
    Ok(all()?.into_iter().rfind(|entry| entry.point == point))
}

fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|&byte| byte == b'\n').filter_map(entry).collect()
}

/// Parses a line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = text(fields.nth(2)?);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    fields.find(|field| *field == b"-")?;
    Some(MountEntry { device, point, kind: text(fields.next()?) })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Decodes `\ooo`, which stands for blanks, newlines and backslashes there.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

/// Returns a path as an argument that no program takes for an option.
pub(super) fn shown(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let text = b"21 1 0:19 / /sys rw shared:7 - sysfs sys rw\n\
            44 21 0:45 / /run/a\\040b\\134c ro,nosuid - fuse.vfio-trace vfio-trace ro,user_id=0\n\
            broken\n45 21 0:46 / /no-type rw\n";
        let entry = |device: &str, point: &str, kind: &str| MountEntry {
            device: device.to_owned(),
            point: point.into(),
            kind: kind.to_owned(),
        };
        assert_eq!(
            parse(text),
            [entry("0:19", "/sys", "sysfs"), entry("0:45", "/run/a b\\c", "fuse.vfio-trace")]
        );
    }

    #[test]
    fn this_system_has_a_proc() {
        assert_eq!(at(Path::new("/proc")).unwrap().unwrap().kind, "proc");
        assert_eq!(at(Path::new("/proc/self")).unwrap(), None);
    }
}
