//! Open files and folders of a mount. Each keeps its content as it was at the open, so all of them together have a
//! limit.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo};

/// Most bytes that all of them may keep: beyond it no further open succeeds. A longer file can be opened while there is
/// room.
const MOST_BYTES: usize = 256 << 20;
/// Memory cost of a handle besides its content.
const HANDLE_BYTES: usize = 2 * size_of::<OpenNode>();

/// Content of an open file or folder.
#[derive(Clone)]
pub(super) enum OpenNode {
    File(Arc<[u8]>, FileAttr),
    Folder(Arc<[(u64, FileType, String)]>),
    /// A device's `debug` file, open for writing.
    Debug(String),
}

impl OpenNode {
    /// Returns the number of bytes that it keeps for itself alone.
    fn own_bytes(&self) -> usize {
        let kept = match self {
            Self::File(..) => 0,
            Self::Folder(entries) => entries.iter().map(|entry| size_of_val(entry) + entry.2.len()).sum(),
            Self::Debug(device) => device.len(),
        };
        HANDLE_BYTES + kept
    }

    /// Returns the content that it may share with other handles: its address and its length.
    fn content(&self) -> Option<(usize, usize)> {
        match self {
            Self::File(content, _) => Some((content.as_ptr().addr(), content.len())),
            Self::Folder(_) | Self::Debug(_) => None,
        }
    }
}

/// All open handles.
#[derive(Default)]
pub(super) struct HandleTable {
    open: HashMap<u64, OpenNode>,
    /// Number of handles of each content, by the content's address.
    contents: HashMap<usize, u64>,
    bytes: usize,
    next: u64,
}

impl HandleTable {
    /// Keeps one more; ENFILE if the open ones keep too many bytes.
    pub(super) fn keep(&mut self, open: OpenNode) -> Result<FileHandle, Errno> {
        if self.bytes >= MOST_BYTES {
            return Err(Errno::ENFILE);
        }
        self.bytes += open.own_bytes();
        if let Some((place, len)) = open.content() {
            let users = self.contents.entry(place).or_insert(0);
            self.bytes += if *users == 0 { len } else { 0 };
            *users += 1;
        }
        self.next += 1;
        self.open.insert(self.next, open);
        Ok(FileHandle(self.next))
    }

    /// Returns the content of a handle.
    pub(super) fn kept(&self, handle: FileHandle) -> Option<OpenNode> {
        self.open.get(&handle.0).cloned()
    }

    /// Closes a handle.
    pub(super) fn release(&mut self, handle: FileHandle) {
        let Some(open) = self.open.remove(&handle.0) else { return };
        self.bytes -= open.own_bytes();
        if let Some((place, len)) = open.content()
            && let Entry::Occupied(mut users) = self.contents.entry(place)
        {
            *users.get_mut() -= 1;
            if *users.get() == 0 {
                users.remove();
                self.bytes -= len;
            }
        }
    }

    /// Returns the attributes of a file that is open but gone, as after unlink(2): fstat(2) does not pass the
    /// descriptor that it asks through.
    pub(super) fn last_seen(&self, ino: INodeNo) -> Option<FileAttr> {
        let attrs = self.open.iter().filter_map(|(number, open)| match open {
            OpenNode::File(_, attr) if attr.ino == ino => Some((number, attr)),
            _ => None,
        });
        attrs.max_by_key(|(number, _)| *number).map(|(_, attr)| FileAttr { nlink: 0, ..*attr })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn file(content: &Arc<[u8]>) -> OpenNode {
        let at = SystemTime::UNIX_EPOCH;
        let attr = FileAttr {
            ino: INodeNo(7),
            size: content.len() as u64,
            blocks: 0,
            atime: at,
            mtime: at,
            ctime: at,
            crtime: at,
            kind: FileType::RegularFile,
            perm: 0o444,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        OpenNode::File(Arc::clone(content), attr)
    }

    #[test]
    fn what_is_open_has_a_limit_together() {
        let mut handles = HandleTable::default();
        let content = || Arc::from(vec![0; MOST_BYTES / 4]);
        let open: Vec<_> = (0..4).map(|_| handles.keep(file(&content())).unwrap()).collect();
        assert_eq!(handles.keep(file(&content())).unwrap_err().code(), Errno::ENFILE.code());
        assert_eq!(handles.keep(OpenNode::Debug("x".to_owned())).unwrap_err().code(), Errno::ENFILE.code());
        handles.release(open[1]);
        assert!(handles.kept(open[1]).is_none() && handles.kept(open[2]).is_some());
        let last = handles.keep(file(&content())).unwrap();
        for handle in open.into_iter().chain([last, last]) {
            handles.release(handle);
        }
        assert_eq!((handles.bytes, handles.contents.len()), (0, 0));
    }

    #[test]
    fn what_many_have_open_is_kept_once() {
        let mut handles = HandleTable::default();
        let content = Arc::from(vec![0; MOST_BYTES - (1 << 20)]);
        let open: Vec<_> = (0..100).map(|_| handles.keep(file(&content)).unwrap()).collect();
        for handle in open {
            handles.release(handle);
        }
        assert_eq!((handles.bytes, handles.contents.len()), (0, 0));
        // An empty content takes room, too.
        let nothing = Arc::from(Vec::new());
        let most = (0..MOST_BYTES).take_while(|_| handles.keep(file(&nothing)).is_ok()).count();
        assert!(most <= MOST_BYTES / HANDLE_BYTES + 1 && most > 100_000, "{most}");
    }
}
