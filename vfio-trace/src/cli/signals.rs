//! Signals that ask to end: heeded by verbs that have something to bring to an end first.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
};

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::error::CliError;
use crate::sys::signals::{BY_KERNEL, act_by_default, is_ignored, leads_session, set_flag, set_sender};

/// Number of signals that are heeded before the next ends the process at once: code that waits in a system call does
/// not hear of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalLimit {
    /// This number.
    AtMost(u32),
    /// All.
    Unlimited,
}

/// Rule for SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HangupRule {
    /// It asks to end, unless it is ignored.
    Heeded,
    /// It does what it did before: ends the process at once, unless it is ignored.
    Untouched,
}

/// Signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReceivedSignal {
    /// The signal.
    pub(super) signal: Signal,
    /// True if it came from the terminal, because Ctrl-C was typed or because it has hung up: then all of its
    /// foreground process group has got it.
    pub(super) by_terminal: bool,
}

/// Signals that ask to end.
#[derive(Debug)]
pub(super) struct StopSignals {
    interrupt: Signals,
    terminate: Signals,
    /// SIGHUP; `None` if it is left alone, or is ignored, as nohup has it, and stays so. SIGINT is heeded also if it is
    /// ignored: shells ignore it for commands that they start in the background, and scripts end those with it.
    hangup: Option<Signals>,
    /// Senders of SIGINT and of SIGHUP.
    from: [Arc<AtomicU8>; 2],
    stop: Arc<AtomicBool>,
}

impl StopSignals {
    /// Takes signals from here on: they do not end the process, and the first sets `stop` at once, whatever this thread
    /// waits for.
    pub(super) fn heed(
        stop: &Arc<AtomicBool>,
        patience: SignalLimit,
        hangups: HangupRule,
    ) -> Result<Self, CliError> {
        let asked = || -> io::Result<Self> {
            let more = match patience {
                SignalLimit::AtMost(more) => Some(Arc::new(AtomicU32::new(more))),
                SignalLimit::Unlimited => None,
            };
            let heed = |kind: SignalKind, more: Option<Arc<AtomicU32>>| {
                let signals = signal(kind)?;
                set_flag(kind.as_raw_value(), Arc::clone(stop), more).map(|()| signals)
            };
            let (interrupt, hangup) = (SignalKind::interrupt(), SignalKind::hangup());
            let ignored = hangups == HangupRule::Untouched || is_ignored(hangup.as_raw_value());
            let asked = Self {
                interrupt: heed(interrupt, more.clone())?,
                terminate: heed(SignalKind::terminate(), more)?,
                // A terminal that goes away may say so twice.
                hangup: if ignored { None } else { Some(heed(hangup, None)?) },
                from: Default::default(),
                stop: Arc::clone(stop),
            };
            // Last: none is lost meanwhile, and nobody asks whose one is before there is a command.
            let [interrupted, hung_up] = &asked.from;
            set_sender(interrupt.as_raw_value(), Arc::clone(interrupted))?;
            if !ignored {
                set_sender(hangup.as_raw_value(), Arc::clone(hung_up))?;
            }
            Ok(asked)
        };
        asked().map_err(|why| CliError::bug("cannot wait for signals", why))
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> ReceivedSignal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = hangup => Signal::HUP,
        };
        // Another thread may be in the handler still, between telling this one and setting the flag.
        self.stop.store(true, Ordering::Relaxed);
        let [interrupt, hangup] = &self.from;
        // Where that is not known yet, or others have sent it too, the command gets it. A terminal that hangs up tells
        // the leader of its session first, and alone (`ssh -t HOST vfio-trace …`); others are told when that one has
        // ended, all of the foreground process group at once.
        let by_terminal = match signal {
            Signal::INT => interrupt.swap(0, Ordering::Relaxed) == BY_KERNEL,
            Signal::HUP => hangup.swap(0, Ordering::Relaxed) == BY_KERNEL && !leads_session(),
            _ => false,
        };
        ReceivedSignal { signal, by_terminal }
    }

    /// Returns the flag that the first signal sets.
    pub(super) const fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Returns true if a signal has come.
    pub(super) fn has_come(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Lets a write beyond the limit on file sizes (`ulimit -f`) fail with EFBIG, where its signal would end the process.
/// It is caught, not ignored: commands that are started get its default action back (execve(2)).
pub(super) fn outlive_file_limit() {
    let limit = Signal::XFSZ.as_raw();
    // One that is ignored fails as well, and stays ignored for commands, as was wished.
    if !is_ignored(limit) {
        let _ends_the_process = set_flag(limit, Arc::default(), None).is_err();
    }
}

/// Lets signals end the process from here on, whatever it waits for: all that had to be brought to an end has been.
pub(super) fn end_heeding() {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let signal = kind.as_raw_value();
        if !is_ignored(signal) {
            act_by_default(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader},
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
        time::Duration,
    };

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    /// Environment variable of a process that runs this test alone.
    const CHILD: &str = "VFIO_TRACE_TEST_SIGNALS";

    #[test]
    fn the_limit_on_file_sizes_ends_commands_only() {
        let limit = Signal::XFSZ;
        if is_ignored(limit.as_raw()) {
            eprintln!("SKIPPED: the signal is ignored, and stays so");
            return;
        }
        outlive_file_limit();
        rustix::process::kill_process(rustix::process::getpid(), limit).unwrap();
        assert!(!is_ignored(limit.as_raw()));
        let ended = Command::new("sh").args(["-c", "ulimit -c 0; kill -XFSZ $$"]).status().unwrap();
        assert_eq!(ended.signal(), Some(limit.as_raw()), "{ended}");
    }

    #[test]
    fn a_hangup_that_was_ignored_is_none() {
        if env::var_os(CHILD).is_some() {
            return child();
        }
        let test = env::current_exe().unwrap();
        let name = "cli::signals::tests::a_hangup_that_was_ignored_is_none";
        // Whoever runs this may have been started with nohup.
        let heeded = "exec env --default-signal=HUP";
        for (before, said) in [("trap '' HUP; exec", "nothing came"), (heeded, "hangup")] {
            let line = format!("{before} \"$0\" --exact {name} --nocapture");
            let ran = Command::new("sh").args(["-c", &line]).arg(&test).env(CHILD, "1").output().unwrap();
            let out = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(out.contains(&format!("child: {said}")), "{before}: {out}");
        }
    }

    fn child() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stop = Arc::new(AtomicBool::new(false));
            let mut asked = StopSignals::heed(&stop, SignalLimit::AtMost(1), HangupRule::Heeded).unwrap();
            rustix::process::kill_process(rustix::process::getpid(), Signal::HUP).unwrap();
            let next = tokio::time::timeout(Duration::from_millis(300), asked.next()).await;
            assert_eq!(next.is_ok(), asked.has_come());
            let sent = ReceivedSignal { signal: Signal::HUP, by_terminal: false };
            println!("child: {}", if next == Ok(sent) { "hangup" } else { "nothing came" });
        });
    }

    #[test]
    fn who_leads_the_session_is_told_alone_that_the_terminal_has_hung_up() {
        if env::var_os(CHILD).is_some() {
            return on_terminal();
        }
        let test = env::current_exe().unwrap();
        let name = "cli::signals::tests::who_leads_the_session_is_told_alone_that_the_terminal_has_hung_up";
        for (line, by_terminal) in [("exec \"$0\" \"$@\"", false), ("\"$0\" \"$@\"; exit", true)] {
            // Open nowhere else: it is its last close that hangs up.
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let ours = openpt(flags).unwrap();
            unlockpt(&ours).unwrap();
            let terminal = ioctl_tiocgptpeer(&ours, flags).unwrap();
            let mut leader = Command::new("setsid");
            leader.args(["-c", "env", "--default-signal=HUP", "sh", "-c", line]).arg(&test);
            leader.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
            let mut leader = leader.stdin(terminal).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(leader.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert!(lines.any(|line| line.contains("child: waits")), "{line}");
            drop(ours);
            let said: Vec<String> = lines.filter(|line| line.contains("child: ")).collect();
            assert_eq!(said, [format!("child: by_terminal {by_terminal}")], "{line}");
            leader.wait().unwrap();
        }
    }

    fn on_terminal() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stop = Arc::new(AtomicBool::new(false));
            let mut asked = StopSignals::heed(&stop, SignalLimit::AtMost(1), HangupRule::Heeded).unwrap();
            println!("child: waits");
            // Who it is from is noted behind what `next` waits for.
            for _ in 0..2_000 {
                if asked.from[1].load(Ordering::Relaxed) != 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let heard = tokio::time::timeout(Duration::from_secs(20), asked.next()).await.unwrap();
            assert_eq!(heard.signal, Signal::HUP);
            println!("child: by_terminal {}", heard.by_terminal);
        });
    }
}
