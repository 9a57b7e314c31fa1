//! Answers the kernel's FUSE requests from the host's state. The kernel caches nothing: every request sees the present.

use std::{
    ffi::OsStr,
    fmt, io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use fuser::{
    AccessFlags, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, TimeOrNow,
    WriteFlags,
};
use tokio::sync::oneshot;

use super::{
    content::{MountTree, TreeNode},
    debug::{DeviceExerciser, ExerciseWorker},
    handles::{HandleTable, OpenNode},
    inodes::InodeTable,
    tree::{self, NodeKind},
};
use crate::state::HostState;

/// Time for which the kernel may cache names and attributes: none.
const TTL: Duration = Duration::ZERO;

/// Brings the host's state up to date before a request is answered. A recording's state never changes.
pub trait Refresh: Send + Sync + 'static {
    /// Returns when it is done, or cannot be done in a moment.
    fn refresh(&self);
}

struct FuseFilesystem {
    host: Arc<Mutex<HostState>>,
    /// Locked after the host, never before.
    tree: Arc<Mutex<MountTree>>,
    fresh: Box<dyn Refresh>,
    inodes: Mutex<InodeTable>,
    handles: Mutex<HandleTable>,
    /// Runs commands written to `debug` files; `None`: no such writes.
    bench: Option<Arc<ExerciseWorker>>,
    uid: u32,
    gid: u32,
}

/// A FUSE session in a thread of its own.
pub struct FuseServer {
    /// Receives the session's result when it has ended, which is when it was unmounted.
    pub ended: oneshot::Receiver<io::Result<()>>,
}

impl fmt::Debug for FuseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

/// Answers requests from `device`, the `/dev/fuse` of a mount, in a thread of its own. Only with `exercise` can
/// anything be written: to `debug` files.
///
/// # Errors
///
/// If the kernel speaks a FUSE that is not understood, or there can be no thread.
pub fn serve(
    device: OwnedFd,
    allow_other: bool,
    host: Arc<Mutex<HostState>>,
    tree: MountTree,
    fresh: Box<dyn Refresh>,
    exercise: Option<Box<dyn DeviceExerciser>>,
) -> io::Result<FuseServer> {
    let filesystem = FuseFilesystem {
        host,
        tree: Arc::new(Mutex::new(tree)),
        fresh,
        inodes: Mutex::new(InodeTable::new()),
        handles: Mutex::default(),
        bench: exercise.map(ExerciseWorker::new),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let acl = if allow_other { SessionACL::All } else { SessionACL::Owner };
    let session = Session::from_fd(filesystem, device, acl, Config::default())?;
    let (tell, ended) = oneshot::channel();
    thread::Builder::new().name("fuse".to_owned()).spawn(move || {
        // The receiver may be gone.
        drop(tell.send(session.run()));
    })?;
    Ok(FuseServer { ended })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Folder => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
    }
}

impl FuseFilesystem {
    fn path(&self, ino: INodeNo) -> Option<Arc<str>> {
        lock(&self.inodes).path(ino.0)
    }

    fn attr(&self, host: &HostState, path: &str, node: TreeNode) -> FileAttr {
        let changed = host.wall(node.changed_ns);
        FileAttr {
            ino: INodeNo(lock(&self.inodes).number(path)),
            size: node.size,
            blocks: node.size.div_ceil(512),
            atime: changed,
            mtime: changed,
            ctime: changed,
            crtime: changed,
            kind: file_type(node.kind),
            perm: match node.kind {
                NodeKind::Folder => 0o555,
                NodeKind::File if self.bench.is_some() && self.is_debug(host, path) => 0o644,
                NodeKind::File => 0o444,
            },
            nlink: node.links,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn is_debug(&self, host: &HostState, path: &str) -> bool {
        lock(&self.tree).device_of_debug(host, path).is_some()
    }

    /// Returns the attributes of a path's node as it is now.
    fn look(&self, path: &str) -> Option<FileAttr> {
        self.fresh.refresh();
        let mut host = lock(&self.host);
        let node = lock(&self.tree).node(&mut host, path)?;
        Some(self.attr(&host, path, node))
    }

    fn keep(&self, open: OpenNode) -> Result<FileHandle, Errno> {
        lock(&self.handles).keep(open)
    }

    fn kept(&self, handle: FileHandle) -> Option<OpenNode> {
        lock(&self.handles).kept(handle)
    }

    fn drop_handle(&self, handle: FileHandle) {
        lock(&self.handles).release(handle);
    }

    fn open_file(&self, path: &str) -> Result<OpenNode, Errno> {
        self.fresh.refresh();
        let mut host = lock(&self.host);
        let content = lock(&self.tree).content(&mut host, path).ok_or(Errno::ENOENT)?;
        // debugfs' own file gives an error if the driver has no data.
        let content = content.ok_or(Errno::ENODATA)?;
        let node = lock(&self.tree).node(&mut host, path).ok_or(Errno::ENOENT)?;
        let attr = self.attr(&host, path, TreeNode { size: content.len() as u64, ..node });
        Ok(OpenNode::File(content, attr))
    }

    /// Returns the device of a `debug` file; an error if the path is another one, or the request's user may not write.
    fn writable(&self, path: &str, request: &Request) -> Result<String, Errno> {
        let host = lock(&self.host);
        let device = lock(&self.tree).device_of_debug(&host, path).ok_or(Errno::EROFS)?;
        drop(host);
        if self.bench.is_none() {
            return Err(Errno::EPERM);
        }
        // The command would run with the rights of the user that has mounted.
        if request.uid() == 0 || request.uid() == self.uid { Ok(device) } else { Err(Errno::EACCES) }
    }

    fn writable_ino(&self, ino: INodeNo, request: &Request) -> Result<String, Errno> {
        self.path(ino).ok_or(Errno::ENOENT).and_then(|path| self.writable(&path, request))
    }

    fn open_folder(&self, path: &str) -> Result<OpenNode, Errno> {
        self.fresh.refresh();
        let host = lock(&self.host);
        let names = lock(&self.tree).list(&host, path).ok_or(Errno::ENOENT)?;
        let inodes = lock(&self.inodes);
        let dots = [(path, "."), (tree::parent(path), "..")];
        let mut entries: Vec<_> = dots
            .map(|(path, name)| (inodes.number(path), FileType::Directory, name.to_owned()))
            .into_iter()
            .collect();
        entries.extend(names.into_iter().map(|(name, kind)| {
            let number = inodes.number(&tree::join(path, &name));
            (number, file_type(kind), name)
        }));
        Ok(OpenNode::Folder(entries.into()))
    }
}

impl Filesystem for FuseFilesystem {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = self.path(parent).zip(name.to_str()).map(|(folder, name)| tree::join(&folder, name));
        let Some(path) = path else { return reply.error(Errno::ENOENT) };
        match self.look(&path) {
            Some(attr) => {
                // The kernel remembers this number until its FORGET request.
                let attr = FileAttr { ino: INodeNo(lock(&self.inodes).remember(&path)), ..attr };
                reply.entry(&TTL, &attr, Generation(0));
            },
            None => reply.error(Errno::ENOENT),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        lock(&self.inodes).forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(OpenNode::File(_, attr)) = fh.and_then(|fh| self.kept(fh)) {
            return reply.attr(&TTL, &attr);
        }
        let attr = self.path(ino).and_then(|path| self.look(&path));
        match attr.or_else(|| lock(&self.handles).last_seen(ino)) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return match self.writable_ino(ino, req).and_then(|device| self.keep(OpenNode::Debug(device))) {
                Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
                Err(errno) => reply.error(errno),
            };
        }
        let open = self.path(ino).ok_or(Errno::ENOENT).and_then(|path| self.open_file(&path));
        match open.and_then(|open| self.keep(open)) {
            // Bypasses the page cache, which all openers of a file share.
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(OpenNode::File(content, _)) = self.kept(fh) else { return reply.error(Errno::EBADF) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(size as usize).min(content.len());
        reply.data(content.get(start..end).unwrap_or_default());
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match (self.kept(fh), &self.bench) {
            (Some(OpenNode::Debug(device)), Some(bench)) => bench.write(&self.tree, device, data, reply),
            _ => reply.error(Errno::EBADF),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // `echo 0 >debug` truncates it first, which has no effect here.
        let empties = size == Some(0) && mode.is_none() && uid.is_none() && gid.is_none();
        let allowed = if empties { self.writable_ino(ino, req).map(drop) } else { Err(Errno::EROFS) };
        let attr =
            allowed.and_then(|()| self.path(ino).and_then(|path| self.look(&path)).ok_or(Errno::ENOENT));
        match attr {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let asks = mask.contains(AccessFlags::W_OK);
        match if asks { self.writable_ino(ino, req).map(drop) } else { Ok(()) } {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(&self, _req: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _req: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _req: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _req: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _req: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _req: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _req: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _req: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _req: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _req: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.drop_handle(fh);
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let open = self.path(ino).ok_or(Errno::ENOENT).and_then(|path| self.open_folder(&path));
        match open.and_then(|open| self.keep(open)) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(OpenNode::Folder(entries)) = self.kept(fh) else { return reply.error(Errno::EBADF) };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((number, kind, name), next) in entries.iter().zip(1..).skip(skip) {
            if reply.add(INodeNo(*number), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.drop_handle(fh);
        reply.ok();
    }
}
