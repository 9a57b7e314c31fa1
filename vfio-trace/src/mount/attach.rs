//! Mounting and unmounting: by the system calls, or by fusermount3 if only root may use those.

use std::{
    borrow::Cow,
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, FdFlags, IoSliceMut, fcntl_setfd},
    mount::{MountFlags, UnmountFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use thiserror::Error;

use super::mounts;
use crate::{
    kernel::caps::is_root,
    units::advice::{ErrorAdvice, FAILED, NOT_PERMITTED, NOT_SUPPORTED},
};

/// Type of our mounts in /proc/mounts.
pub(super) const FS_TYPE: &str = "fuse.vfio-trace";
const SOURCE: &str = "vfio-trace";
const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Error for which nothing was mounted.
#[derive(Debug, Error)]
pub enum MountError {
    /// The kernel has no FUSE.
    #[error("this kernel offers no FUSE: {DEVICE}: {0}")]
    NoFuse(io::Error),
    /// `/dev/fuse` may not be opened.
    #[error("{DEVICE}: {0}")]
    Device(io::Error),
    /// mount(2) is for root only, and there is no fusermount3.
    #[error("mount(2) needs CAP_SYS_ADMIN, and {HELPER} is not installed")]
    Root,
    /// fusermount3 failed.
    #[error("mount(2) needs CAP_SYS_ADMIN, and {HELPER} says: {0}")]
    Helper(String),
    /// Any other error.
    #[error("{call}: {why}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// Its error.
        why: io::Error,
    },
}

impl ErrorAdvice for MountError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoFuse(_) => NOT_SUPPORTED,
            Self::Device(_) | Self::Root | Self::Helper(_) => NOT_PERMITTED,
            Self::Failed { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => NOT_PERMITTED,
            Self::Failed { .. } => FAILED,
        }
    }

    fn advice(&self) -> Cow<'static, str> {
        self.advice_to(is_root()).into()
    }
}

impl MountError {
    /// Returns the advice; `root`: root runs this, so that something else forbids it.
    fn advice_to(&self, root: bool) -> &'static str {
        match self {
            Self::NoFuse(_) => "load it: modprobe fuse; a container must be given the device /dev/fuse",
            Self::Device(_) | Self::Root if root => {
                "let this container have CAP_SYS_ADMIN (and /dev/fuse), or run it on the host"
            },
            Self::Helper(_) if root => {
                "let this container have CAP_SYS_ADMIN (and /dev/fuse), or run it on the host, or do what it says"
            },
            Self::Device(_) => "run it as root, or get access to /dev/fuse",
            Self::Root => "run it as root, or install fuse3",
            Self::Helper(_) => "run it as root, or do what it says",
            Self::Failed { why, .. } if why.kind() == io::ErrorKind::PermissionDenied => {
                if root {
                    "let this container have CAP_SYS_ADMIN, or run it on the host; a security module may forbid it all the same"
                } else {
                    "run it as root; a security module may forbid it all the same"
                }
            },
            Self::Failed { why, call } => match Errno::from_io_error(why) {
                Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n)",
                Some(Errno::NOMEM) => "let it have more memory (a container may have a limit)",
                _ if *call == DEVICE => "see if /dev/fuse is FUSE's device: ls -l /dev/fuse",
                _ => "try another directory",
            },
        }
    }
}

/// A mount that no server answers for yet. [`mount`] makes it; `serve` takes it over.
#[derive(Debug)]
pub struct FuseMount {
    /// Descriptor of `/dev/fuse` from which the kernel's requests are read.
    pub fuse: OwnedFd,
    /// Number of the mount's device, `major:minor`.
    pub device: String,
}

/// Checks that this process can open `/dev/fuse`.
///
/// # Errors
///
/// [`MountError`] if not.
pub fn check_device() -> Result<(), MountError> {
    open_device().map(drop)
}

fn open_device() -> Result<OwnedFd, MountError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(not_opened)
}

/// Returns the error for a `/dev/fuse` that cannot be opened.
fn not_opened(errno: Errno) -> MountError {
    match errno {
        Errno::ACCESS | Errno::PERM => MountError::Device(errno.into()),
        // No device, or none with a driver.
        Errno::NOENT | Errno::NODEV | Errno::NXIO => MountError::NoFuse(errno.into()),
        _ => MountError::Failed { call: DEVICE, why: errno.into() },
    }
}

/// Mounts on a directory: read-only, or writable, for a server that answers requests to write. Until a server answers,
/// processes that look into the directory wait.
///
/// # Errors
///
/// [`MountError`]; then nothing is mounted.
pub fn mount(dir: &Path, allow_other: bool, writable: bool) -> Result<FuseMount, MountError> {
    let fuse = match by_system_call(dir, allow_other, writable) {
        Ok(fuse) => fuse,
        Err(MountError::Root) => by_helper(dir, allow_other, writable)?,
        Err(error) => return Err(error),
    };
    let failed = |why| MountError::Failed { call: "/proc/self/mountinfo", why };
    let entry = mounts::at(dir).map_err(failed)?.filter(|entry| entry.kind == FS_TYPE);
    // Without a number the mount cannot be told from others at the same place: better none than one that stays. Closing
    // the last descriptor of its device makes it a dead one, for the guard to find.
    let entry = entry.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok(FuseMount { fuse, device: entry.device })
}

fn by_system_call(dir: &Path, allow_other: bool, writable: bool) -> Result<OwnedFd, MountError> {
    let fuse = open_device()?;
    let other = if allow_other { ",allow_other" } else { "" };
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    // The kernel checks permissions itself: the modes allow reading to all and writing to none. It must not if requests
    // to write are answered one by one.
    let checks = if writable { "" } else { ",default_permissions" };
    let options =
        format!("fd={},rootmode=40000,user_id={user},group_id={group}{checks}{other}", fuse.as_raw_fd());
    let options = CString::new(options).unwrap_or_default();
    let flags = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME;
    let flags = if writable { flags - MountFlags::RDONLY } else { flags };
    match rustix::mount::mount(SOURCE, dir, FS_TYPE, flags, options.as_c_str()) {
        Ok(()) => Ok(fuse),
        Err(Errno::PERM) => Err(MountError::Root),
        Err(errno @ Errno::NODEV) => Err(MountError::NoFuse(errno.into())),
        Err(errno) => Err(MountError::Failed { call: "mount", why: errno.into() }),
    }
}

/// Mounts by fusermount3, which opens `/dev/fuse`, mounts, and sends the descriptor back through the socket named in
/// `_FUSE_COMMFD`.
fn by_helper(dir: &Path, allow_other: bool, writable: bool) -> Result<OwnedFd, MountError> {
    let failed = |call| move |why: io::Error| MountError::Failed { call, why };
    let (ours, theirs) = UnixStream::pair().map_err(failed("socketpair"))?;
    // The only child started meanwhile is fusermount3, which needs the descriptor.
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|errno| failed("fcntl")(errno.into()))?;
    let mode = if writable { "rw" } else { "ro,default_permissions" };
    let mut options = format!("{mode},nosuid,nodev,noexec,noatime,fsname={SOURCE},subtype={SOURCE}");
    if allow_other {
        options.push_str(",allow_other");
    }
    let child = Command::new(HELPER)
        .args(["-o", &options, "--"])
        .arg(dir)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    drop(theirs);
    let child = match child {
        Ok(child) => child,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(MountError::Root),
        Err(why) => return Err(failed(HELPER)(why)),
    };
    let fuse = receive(&ours).map_err(failed("recvmsg"))?;
    let output = child.wait_with_output().map_err(failed(HELPER))?;
    fuse.ok_or_else(|| MountError::Helper(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Receives the descriptor that comes with a message; `None` if the other side closed the socket without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Ok(_) => break,
            Err(Errno::INTR) => {},
            Err(errno) => return Err(errno.into()),
        }
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor)
}

/// Detaches a mount at once (the top one, if there are several); a process that has a file of it open keeps that, dead.
pub(super) fn unmount(point: &Path) -> io::Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => unmount_by_helper(point),
        Err(errno) => Err(errno.into()),
    }
}

fn unmount_by_helper(point: &Path) -> io::Result<()> {
    let output = Command::new(HELPER).args(["-u", "-q", "-z", "--"]).arg(point).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::PermissionDenied.into()),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_not_told_to_be_root() {
        let denied = || io::Error::from(Errno::ACCESS);
        for error in [
            MountError::Device(denied()),
            MountError::Root,
            MountError::Helper("Operation not permitted".to_owned()),
            MountError::Failed { call: "mount", why: denied() },
        ] {
            let [user, root] = [false, true].map(|root| error.advice_to(root));
            assert!(user.contains("as root"), "{error}: {user}");
            assert!(!root.contains("as root") && root.contains("CAP_SYS_ADMIN"), "{error}: {root}");
            assert_eq!(error.exit_code(), NOT_PERMITTED, "{error}");
        }
    }

    /// Checks every error number: only a few say that the kernel has no FUSE.
    #[test]
    fn fuse_is_missing_only_where_its_device_is() {
        for raw in 1..134 {
            let errno = Errno::from_raw_os_error(raw);
            let error = not_opened(errno);
            let expected = match errno {
                Errno::NOENT | Errno::NODEV | Errno::NXIO => NOT_SUPPORTED,
                Errno::ACCESS | Errno::PERM => NOT_PERMITTED,
                _ => FAILED,
            };
            assert_eq!(error.exit_code(), expected, "{error}");
            let advice = error.advice();
            assert_eq!(advice.contains("modprobe"), expected == NOT_SUPPORTED, "{error}: {advice}");
            assert!(!advice.contains("directory"), "{error}: {advice}");
        }
        let scarce = not_opened(Errno::MFILE);
        assert!(scarce.advice().contains("ulimit -n"), "{scarce}");
        let folder = MountError::Failed { call: "mount", why: Errno::NOTDIR.into() };
        assert_eq!(folder.advice(), "try another directory");
    }
}
