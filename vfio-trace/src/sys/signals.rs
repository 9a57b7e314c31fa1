//! Signals at the lowest level: asking if one is ignored, setting a flag when one comes, restoring the default action.

use std::{
    io,
    mem::MaybeUninit,
    ptr::null,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
};

/// Returns true if a signal is ignored, as the process that started this one may have wished (nohup).
pub fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a `struct sigaction` of zeroes is one; without a new action the call only fills it in.
    let (told, now) = unsafe { (libc::sigaction(signal, null(), now.as_mut_ptr()), now.assume_init()) };
    told == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Restores the default action of a signal.
pub fn act_by_default(signal: i32) {
    // SAFETY: no handler of ours is passed.
    let _no_such_signal = unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR;
}

/// Sets `flag` when a signal comes, no matter in which call a thread waits. Once `more` signals were counted down, the
/// next one has its default action; `None`: all of them set the flag.
pub fn set_flag(signal: i32, flag: Arc<AtomicBool>, more: Option<Arc<AtomicU32>>) -> io::Result<()> {
    let note = move || {
        flag.store(true, Ordering::Relaxed);
        let Some(more) = &more else { return };
        if more.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |more| more.checked_sub(1)).is_err() {
            act_by_default(signal);
            // SAFETY: raise(3) may be called from a handler; the signal is delivered when that has returned.
            let _always_there = unsafe { libc::raise(signal) };
        }
    };
    // SAFETY: the handler does nothing but operations on atomics, signal(2) and raise(3), all of which are allowed
    // there.
    unsafe { signal_hook_registry::register(signal, note) }.map(drop)
}

/// Bit for signals from the kernel, which sends those typed at a terminal to all processes of its foreground process
/// group. When the terminal hangs up, the kernel tells the leader of its session, and, when that has ended, that group.
pub const BY_KERNEL: u8 = 1;
/// Bit for signals from another process, or from this one.
pub const BY_SOMEBODY: u8 = 2;

/// Adds the sender's bit to `from` when a signal comes: [`BY_KERNEL`] or [`BY_SOMEBODY`].
pub fn set_sender(signal: i32, from: Arc<AtomicU8>) -> io::Result<()> {
    let note = move |info: &libc::siginfo_t| {
        let by = if info.si_code == libc::SI_KERNEL { BY_KERNEL } else { BY_SOMEBODY };
        from.fetch_or(by, Ordering::Relaxed);
    };
    // SAFETY: the handler does nothing but an operation on an atomic.
    unsafe { signal_hook_registry::register_sigaction(signal, note) }.map(drop)
}

/// Returns true if this process leads its session. One that a container runs is in a session whose leader may be outside of
/// its PID namespace; the kernel then gives 0 for it, for which not every wrapper of getsid(2) is prepared.
pub fn leads_session() -> bool {
    // SAFETY: both take and give numbers only.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Returns true if a process is in our process group. Outside of our PID namespace each group's number is 0, and there is no
/// way from one of those into another.
pub fn shares_group(pid: i32) -> bool {
    // SAFETY: both take and give numbers only.
    unsafe { libc::getpgid(pid) == libc::getpgrp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_told() {
        // Nothing here uses SIGURG, and it is ignored by default.
        assert!(!is_ignored(libc::SIGURG), "by default is not by wish");
        // SAFETY: no handler is passed.
        unsafe {
            libc::signal(libc::SIGURG, libc::SIG_IGN);
        }
        assert!(is_ignored(libc::SIGURG));
        act_by_default(libc::SIGURG);
        assert!(!is_ignored(libc::SIGURG));
        assert!(!is_ignored(-1));
    }

    /// Set for a process that is this test alone, in a PID namespace that has neither its session's leader nor its group's.
    const INSIDE: &str = "VFIO_TRACE_TEST_PID_NAMESPACE";

    #[test]
    fn a_session_and_a_group_of_outside_the_pid_namespace_are_no_numbers() {
        if std::env::var_os(INSIDE).is_some() {
            // SAFETY: they give numbers.
            let outside = unsafe { (libc::getsid(0), libc::getpgrp()) };
            let child = std::process::Command::new("sleep").arg("60").spawn();
            let mut child = child.unwrap();
            let shared = shares_group(child.id().cast_signed());
            child.kill().unwrap();
            child.wait().unwrap();
            println!("inside: {outside:?} leads {} shares {shared}", leads_session());
            return;
        }
        let name = "sys::signals::tests::a_session_and_a_group_of_outside_the_pid_namespace_are_no_numbers";
        let mut inside = std::process::Command::new("unshare");
        inside.args(["--user", "--map-root-user", "--pid", "--fork"]).arg(std::env::current_exe().unwrap());
        let ran = inside.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
        let (said, why) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        if why.contains("unshare: unshare failed") {
            eprintln!("SKIPPED: this user may not make namespaces: {why}");
            return;
        }
        assert!(said.contains("inside: (0, 0) leads false shares true"), "{said}{why}");
        let mut own = std::process::Command::new("sleep");
        let mut own = std::os::unix::process::CommandExt::process_group(own.arg("60"), 0).spawn().unwrap();
        assert!(!shares_group(own.id().cast_signed()), "it has a group of its own");
        own.kill().unwrap();
        own.wait().unwrap();
        assert!(!shares_group(-1), "there is no such process");
    }

    #[test]
    fn what_the_kernel_sends_is_told_apart() {
        let (came, from) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(0)));
        set_sender(libc::SIGALRM, Arc::clone(&from)).unwrap();
        set_flag(libc::SIGALRM, Arc::clone(&came), None).unwrap();
        // SAFETY: the signal has a handler.
        unsafe {
            libc::alarm(1);
        }
        while !came.swap(false, Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(from.swap(0, Ordering::Relaxed), BY_KERNEL, "a timer is the kernel's");
        // SAFETY: the signal has a handler.
        unsafe {
            libc::raise(libc::SIGALRM);
        }
        assert!(came.load(Ordering::Relaxed) && from.load(Ordering::Relaxed) == BY_SOMEBODY);
    }

    #[test]
    fn a_signal_sets_its_flag_and_later_ones_act_by_default() {
        let (flag, more) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(1)));
        // The default action of SIGWINCH is to do nothing.
        set_flag(libc::SIGWINCH, Arc::clone(&flag), Some(Arc::clone(&more))).unwrap();
        let raise = || {
            flag.store(false, Ordering::Relaxed);
            // SAFETY: it ends nothing.
            unsafe {
                libc::raise(libc::SIGWINCH);
            }
            flag.load(Ordering::Relaxed)
        };
        assert!(raise() && more.load(Ordering::Relaxed) == 0);
        assert!(raise(), "this one has ended the heeding");
        assert!(!raise(), "nobody heeds it any more");
    }
}
