//! Notes of a running check beside its result: lines to print with it, second tries, and tests that were left out.

use std::{
    cell::RefCell,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// All notes of a check. The functions of this module add to it; the summary prints it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Lines to print above the check's own.
    pub(super) lines: Vec<String>,
    /// Second tries, each with the thing that was tried again and the known reason.
    pub(super) retries: Vec<String>,
    /// Unit tests that did not run, or that ran and tested nothing, with the reason.
    pub(super) left_out: Vec<LeftOut>,
    /// Processor time of its VMs. `boots` is their number.
    pub(super) cpu: Duration,
    pub(super) boots: u64,
}

/// A unit test that tested nothing on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Path of the test, as cargo prints it.
    pub(super) test: String,
    pub(super) why: String,
}

/// The notes of a thread's check. Threads that a check starts take it over with [`Handle::enter`].
#[derive(Clone, Debug, Default)]
pub(super) struct Handle(Arc<Mutex<Notes>>);

thread_local! {
    static CURRENT: RefCell<Handle> = RefCell::default();
}

impl Handle {
    /// Returns the handle of this thread.
    pub(super) fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Makes this handle the thread's.
    pub(super) fn enter(&self) {
        CURRENT.set(self.clone());
    }

    /// Removes and returns the notes so far.
    pub(super) fn take(&self) -> Notes {
        self.with(mem::take)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes a line to print with the check's result.
pub(super) fn line(text: impl Into<String>) {
    Handle::current().with(|notes| notes.lines.push(text.into()));
}

/// Notes that something was tried again, for a known reason that is not the tracer's fault.
pub(super) fn retry(what: impl Into<String>) {
    Handle::current().with(|notes| notes.retries.push(what.into()));
}

/// Notes the processor time of a VM that ended.
pub(super) fn cpu(time: Duration) {
    Handle::current().with(|notes| {
        notes.cpu += time;
        notes.boots += 1;
    });
}

/// Notes a unit test that tested nothing here.
pub(super) fn left_out(test: LeftOut) {
    Handle::current().with(|notes| notes.left_out.push(test));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_of_a_check_notes_is_the_checks() {
        let check = Handle::default();
        let thread = check.clone();
        std::thread::spawn(move || {
            thread.enter();
            retry("once more");
        })
        .join()
        .unwrap();
        line("another check's");
        let notes = check.take();
        assert_eq!((notes.lines.len(), notes.retries.len()), (0, 1));
        assert!(check.take().retries.is_empty());
    }
}
