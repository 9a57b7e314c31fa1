//! What is written to a device's `debug` file, as the debugfs series had it: 0 save, 1 resume, 2 I/O test.

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

/// What can be written.
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

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExerciseOutcome {
    /// Well.
    Well,
    /// The device or its driver misbehaves.
    Failed,
    /// Somebody has the device.
    InUse,
    /// It must not be opened by who has mounted.
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

/// Exercises a device, if nobody uses it.
pub trait DeviceExerciser: Debug + Send + Sync + 'static {
    /// Gives how it went, and all that there is to say of it. It may take its time.
    fn exercise(&self, device: &str, command: DebugCommand) -> (ExerciseOutcome, String);
}

/// Whoever exercises, one device after the other.
#[derive(Debug)]
pub(super) struct ExerciseWorker {
    exercise: Box<dyn DeviceExerciser>,
    busy: AtomicBool,
}

impl ExerciseWorker {
    pub(super) fn new(exercise: Box<dyn DeviceExerciser>) -> Arc<Self> {
        Arc::new(Self { exercise, busy: AtomicBool::new(false) })
    }

    /// Does what was written, and then answers. In a thread of its own: others look at files meanwhile.
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
            // In a panic the reply is dropped, which answers EIO, and the next one has its turn.
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

/// The right to exercise, until it is dropped.
struct ExercisePermit(Arc<ExerciseWorker>);

impl ExercisePermit {
    /// `None`: another one is under way.
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
