//! Writes to a device's `debug` file, as in the debugfs series: 0 save, 1 resume, 2 I/O test.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use fuser::{Errno, ReplyWrite};

use super::content::MountTree;

/// A command that can be written to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugCommand {
    /// `0`
    Save,
    /// `1`
    Resume,
    /// `2`
    IoTest,
}

impl DebugCommand {
    fn parse(written: &[u8]) -> Option<Self> {
        match written.trim_ascii() {
            b"0" => Some(Self::Save),
            b"1" => Some(Self::Resume),
            b"2" => Some(Self::IoTest),
            _ => None,
        }
    }
}

/// Outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExerciseOutcome {
    /// Success.
    Well,
    /// The device or its driver misbehaves.
    Failed,
    /// Another process has the device open.
    InUse,
    /// The user that has mounted may not open it.
    NotPermitted,
    /// The device or its driver cannot do it.
    Unsupported,
}

impl ExerciseOutcome {
    const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Well => None,
            Self::Failed => Some(Errno::EIO),
            Self::InUse => Some(Errno::EBUSY),
            Self::NotPermitted => Some(Errno::EPERM),
            Self::Unsupported => Some(Errno::EOPNOTSUPP),
        }
    }
}

/// Runs a command on a device that no process uses. `mount` implements it with the exercise of the `exercise` verb; the
/// server calls it for each write to a `debug` file.
pub trait DeviceExerciser: Debug + Send + Sync + 'static {
    /// Runs the command, and returns its outcome and its complete output. It may take long.
    fn exercise(&self, device: &str, command: DebugCommand) -> (ExerciseOutcome, String);
}

/// Runs commands, on one device at a time.
#[derive(Debug)]
pub(super) struct ExerciseWorker {
    exercise: Box<dyn DeviceExerciser>,
    busy: AtomicBool,
}

impl ExerciseWorker {
    pub(super) fn new(exercise: Box<dyn DeviceExerciser>) -> Arc<Self> {
        Arc::new(Self { exercise, busy: AtomicBool::new(false) })
    }

    /// Runs the command that was written, and then answers. It does so in a thread of its own: other files can be read
    /// meanwhile.
    pub(super) fn write(
        self: &Arc<Self>,
        tree: &Arc<Mutex<MountTree>>,
        device: String,
        written: &[u8],
        reply: ReplyWrite,
    ) {
        let Some(command) = DebugCommand::parse(written) else { return reply.error(Errno::EINVAL) };
        let Some(turn) = ExercisePermit::take(self) else { return reply.error(Errno::EBUSY) };
        let length = u32::try_from(written.len()).unwrap_or(u32::MAX);
        let tree = Arc::clone(tree);
        let say = move |device: &str, text: &str| {
            tree.lock().unwrap_or_else(PoisonError::into_inner).say_in_debug(device, text);
        };
        let work = move || {
            say(&device, "it is under way\n");
            // After a panic the reply is dropped, which answers EIO, and the next command has its turn.
            let (how, text) = turn.0.exercise.exercise(&device, command);
            say(&device, &text);
            drop(turn);
            match how.errno() {
                None => reply.written(length),
                Some(errno) => reply.error(errno),
            }
        };
        // Without a thread the reply is dropped, which answers EIO, and so is the turn.
        let _answered = thread::Builder::new().name("exercise".to_owned()).spawn(work).is_ok();
    }
}

/// The permission to run a command, until it is dropped.
struct ExercisePermit(Arc<ExerciseWorker>);

impl ExercisePermit {
    /// Takes the permission; `None` if a command is under way.
    fn take(bench: &Arc<ExerciseWorker>) -> Option<Self> {
        (!bench.busy.swap(true, Ordering::AcqRel)).then(|| Self(Arc::clone(bench)))
    }
}

impl Drop for ExercisePermit {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written() {
        assert_eq!(DebugCommand::parse(b"0\n"), Some(DebugCommand::Save));
        assert_eq!(DebugCommand::parse(b"1"), Some(DebugCommand::Resume));
        assert_eq!(DebugCommand::parse(b" 2 \n"), Some(DebugCommand::IoTest));
        for wrong in [&b""[..], b"3", b"00", b"0 1", b"save"] {
            assert_eq!(DebugCommand::parse(wrong), None);
        }
        assert!(ExerciseOutcome::Well.errno().is_none());
        let number = |how: ExerciseOutcome| how.errno().map(Errno::code);
        assert_eq!(number(ExerciseOutcome::InUse), Some(rustix::io::Errno::BUSY.raw_os_error()));
        assert_eq!(number(ExerciseOutcome::NotPermitted), Some(rustix::io::Errno::PERM.raw_os_error()));
    }

    #[derive(Debug)]
    struct PanickingExerciser;

    impl DeviceExerciser for PanickingExerciser {
        fn exercise(&self, _device: &str, _command: DebugCommand) -> (ExerciseOutcome, String) {
            panic!("as a bug would")
        }
    }

    #[test]
    fn a_panic_does_not_keep_the_turn() {
        let bench = ExerciseWorker::new(Box::new(PanickingExerciser));
        let turn = ExercisePermit::take(&bench).unwrap();
        assert!(ExercisePermit::take(&bench).is_none(), "one at a time");
        let worker = thread::spawn(move || turn.0.exercise.exercise("dev", DebugCommand::Save).0);
        worker.join().unwrap_err();
        assert!(ExercisePermit::take(&bench).is_some());
    }
}
