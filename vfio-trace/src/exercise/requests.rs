//! Requests to a device, each as a step with its required outcome.

use std::time::Instant;

use super::{
    device::{CallResult, OpenDevice},
    path,
    report::{ExerciseArc, ExerciseStep, ExerciseVerdict, ExpectedOutcome, finding},
    run::{DeviceSelector, ExerciseRun, StageError, nanoseconds},
    watch,
};
use crate::event::{Errno, FindingSeverity, MigState};

/// Number of bytes per read or write, as in QEMU.
pub(super) const CHUNK: usize = 1 << 20;
/// Number of reads or writes after which the tracer's buffer is emptied and the stop flag is checked.
const BATCH: u64 = 64;
const EIO: Errno = Errno(5);
const ENOTTY: Errno = Errno(25);

/// Required end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedEnd {
    /// ENOMSG: no more data for now, in PRE_COPY.
    NoMessage,
    /// 0 bytes, in STOP_COPY.
    End,
}

impl ExerciseRun<'_> {
    /// Asks for a state. It must be reached, through the arcs that the uAPI defines.
    pub(super) fn set(
        &mut self,
        which: DeviceSelector,
        to: MigState,
        expected: ExpectedOutcome,
    ) -> Result<CallResult<()>, StageError> {
        let from = self.bench(which).state;
        let flags = self.bench(which).flags;
        if let Some(why) = self.avoidance_reason(which, None, to) {
            // The remembered state does not count where a mistake would hang the host: the state is read again.
            let now = self.bench(which).device().and_then(OpenDevice::state).ok();
            if self
                .avoidance_reason(which, from, to)
                .or_else(|| self.avoidance_reason(which, now, to))
                .is_some()
            {
                return Err(StageError::Failed(why));
            }
        }
        let act = |run: &mut Self, step: &mut ExerciseStep| {
            let bench = run.bench(which);
            let device = bench.device()?;
            let start = Instant::now();
            let done = device.set_state(to);
            step.duration_ns = nanoseconds(start.elapsed());
            step.state = device.state().ok();
            // The session is over: a VMM would close the data fd now.
            if !step.state.is_some_and(has_session) {
                device.close_data();
            }
            bench.state = step.state;
            done
        };
        let asked = format!("set {to}");
        // Numbers of required arcs and of seen ones.
        let mut arcs = None;
        let mut unjudged = None;
        let done = self.step(which, asked, expected, act, |run, step, done| match done {
            Ok(new_fd) => {
                arcs = path::path(flags, from?, to).map(|path| (path.len(), step.arcs.len()));
                if step.state != Some(to) {
                    return Some(format!("set {to} worked, but the device says {}", said(step.state)));
                }
                let path = path::path(flags, from?, to)?;
                let opens = path.last().is_some_and(|last| {
                    let before = path.iter().rev().nth(1).copied().or(from);
                    opens_file(before, *last)
                });
                if opens != *new_fd {
                    let got = if *new_fd { "a data fd, where there is none to get" } else { "no data fd" };
                    return Some(format!("set {to} gave {got}"));
                }
                match off_path(&step.arcs, &path, to, run.report.tracing.lost) {
                    None => None,
                    Some(PathMismatch::Wrong(why)) => Some(why),
                    Some(PathMismatch::Unjudged(why)) => {
                        unjudged = Some(why);
                        None
                    },
                }
            },
            Err(errno) if matches!(expected, ExpectedOutcome::Refusal(_)) && step.state != from => {
                Some(format!(
                    "set {to} was refused ({errno}), but the state changed from {} to {}",
                    said(from),
                    said(step.state)
                ))
            },
            Err(_) => None,
        });
        self.count(arcs);
        if let Some(why) = unjudged {
            self.note(why);
        }
        done.map(|done| done.map(drop))
    }

    /// Counts a request that must have taken arcs, and whether they were seen.
    fn count(&mut self, arcs: Option<(usize, usize)>) {
        let tracing = &mut self.report.tracing;
        if let (true, Some((1.., seen))) = (tracing.on, arcs) {
            tracing.requests += 1;
            tracing.unseen += u64::from(seen == 0);
        }
    }

    /// Reads to the end, or as far as PRE_COPY allows. Returns the number of bytes.
    pub(super) fn read(
        &mut self,
        which: DeviceSelector,
        until: ExpectedEnd,
        take: &mut dyn FnMut(&mut Self, &[u8]) -> CallResult<()>,
    ) -> Result<u64, StageError> {
        let asked = if until == ExpectedEnd::NoMessage { "read until ENOMSG" } else { "read to the end" };
        let mut stopped = false;
        let act = |run: &mut Self, step: &mut ExerciseStep| {
            let mut buffer = vec![0; CHUNK];
            let (mut bytes, mut calls) = (0_u64, 0_u64);
            let mut events = Vec::new();
            let done = loop {
                calls += 1;
                match run.bench(which).device()?.read(&mut buffer) {
                    Ok(0) => break Ok(ExpectedEnd::End),
                    Ok(length) => {
                        bytes += length as u64;
                        if let Err(errno) = take(run, buffer.get(..length).unwrap_or_default()) {
                            break Err(errno);
                        }
                    },
                    Err(Errno::ENOMSG) => break Ok(ExpectedEnd::NoMessage),
                    Err(errno) => break Err(errno),
                }
                if calls.is_multiple_of(BATCH) {
                    events.extend(run.watch());
                    stopped = run.wants_stop();
                    if stopped {
                        break Ok(until);
                    }
                }
            };
            watch::add(step, &events);
            (step.bytes, step.calls) = (Some(bytes), Some(calls));
            done.map(|ended| (ended, bytes))
        };
        let done = self.step(which, asked, ExpectedOutcome::Success, act, |_, _, done| match done {
            Ok((ExpectedEnd::NoMessage, _)) if until == ExpectedEnd::End => {
                Some("read gave ENOMSG in STOP_COPY, where the end is 0".to_owned())
            },
            _ => None,
        })?;
        if matches!(done, Ok((ExpectedEnd::End, _))) && until == ExpectedEnd::NoMessage {
            // The documentation says "should" be ENOMSG; VMMs accept 0.
            let text = "The driver ends the stream of PRE_COPY with 0, as that of STOP_COPY ends; that there is nothing more \
                        for now should be told by ENOMSG.";
            let check =
                "nothing with QEMU, which takes both; another VMM may take 0 for the end of the state";
            let finding = finding("exercise/end-in-precopy", FindingSeverity::Info, text.to_owned(), check);
            self.add_finding(ExerciseVerdict::Passed, finding);
        }
        if stopped {
            return Err(StageError::Stopped);
        }
        Ok(done.map_or(0, |(_, bytes)| bytes))
    }

    /// Writes all bytes, in pieces.
    pub(super) fn write(
        &mut self,
        which: DeviceSelector,
        asked: &str,
        bytes: &[u8],
        expected: ExpectedOutcome,
    ) -> Result<CallResult<()>, StageError> {
        self.step_without_check(which, asked, expected, |run, step| {
            let (mut done, mut calls) = (Ok(()), 0);
            let mut written = 0_u64;
            for chunk in bytes.chunks(CHUNK) {
                calls += 1;
                done = run.put(which, chunk);
                if done.is_err() {
                    break;
                }
                written += chunk.len() as u64;
            }
            (step.bytes, step.calls) = (Some(written), Some(calls));
            done
        })
    }

    /// Writes all bytes, even if the driver accepts only a part at a time.
    pub(super) fn put(&mut self, which: DeviceSelector, bytes: &[u8]) -> CallResult<()> {
        let device = self.bench(which).device()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match device.write(rest)? {
                0 => return Err(EIO),
                length => rest = rest.get(length..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Returns true if the device can be reset. It is tried, because not all drivers with a reset announce it (mtty).
    pub(super) fn can_reset(&mut self, which: DeviceSelector) -> bool {
        let bench = self.bench(which);
        if !bench.can_reset {
            bench.can_reset = bench.device().and_then(OpenDevice::reset).is_ok();
            bench.state = bench.device().and_then(OpenDevice::state).ok();
            self.watch();
        }
        self.bench(which).can_reset
    }

    /// Calls `VFIO_DEVICE_RESET`, which must lead to RUNNING.
    pub(super) fn reset(&mut self, which: DeviceSelector) -> Result<(), StageError> {
        let act = |run: &mut Self, step: &mut ExerciseStep| {
            let bench = run.bench(which);
            let device = bench.device()?;
            let start = Instant::now();
            let done = device.reset();
            step.duration_ns = nanoseconds(start.elapsed());
            step.state = device.state().ok();
            bench.state = step.state;
            done
        };
        let done = self.step(which, "reset", ExpectedOutcome::Success, act, |_, step, _| {
            (step.state != Some(MigState::RUNNING))
                .then(|| format!("after VFIO_DEVICE_RESET the device says {}", said(step.state)))
        });
        match done {
            Ok(_) => Ok(()),
            Err(StageError::Failed(why)) => Err(StageError::DeviceUnrecoverable(why)),
            Err(halt) => Err(halt),
        }
    }

    /// Returns the number of bytes that STOP_COPY would transfer, if the kernel can tell.
    pub(super) fn size(&mut self, which: DeviceSelector) -> Result<Option<u64>, StageError> {
        let done = self.step(
            which,
            "data size",
            ExpectedOutcome::Either,
            |run, step| {
                let size = run.bench(which).device()?.data_size();
                step.note = size.ok().map(|bytes| format!("STOP_COPY would move {bytes} bytes"));
                size
            },
            |_, _, done| match done {
                Err(errno) if *errno != ENOTTY => Some(format!("MIG_DATA_SIZE failed with {errno}")),
                _ => None,
            },
        )?;
        Ok(done.ok())
    }
}

/// Difference between the arcs that were seen and the required ones.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PathMismatch {
    /// An error of the device or of the core, in a sentence.
    Wrong(String),
    /// Remark that the arcs were not judged, because the tracer has not seen everything until now.
    Unjudged(String),
}

/// Compares the arcs that were seen with the required ones. If none were seen, there is no complaint.
fn off_path(seen: &[ExerciseArc], path: &[MigState], asked: MigState, lost: u64) -> Option<PathMismatch> {
    let seen: Vec<MigState> = seen.iter().filter_map(|arc| arc.to).collect();
    if seen.is_empty() || seen == path {
        return None;
    }
    if lost > 0 {
        let why = format!("the arcs of set {asked} were not judged: records were lost, or calls not seen");
        return Some(PathMismatch::Unjudged(why));
    }
    let names = |path: &[MigState]| path.iter().map(|state| state.name()).collect::<Vec<_>>().join(", ");
    Some(PathMismatch::Wrong(format!(
        "it went through {}, and must go through {}",
        names(&seen),
        names(path)
    )))
}

fn said(state: Option<MigState>) -> String {
    state.map_or_else(|| "nothing".to_owned(), |state| state.to_string())
}

/// Returns true if a data fd may be in use in a state.
const fn has_session(state: MigState) -> bool {
    matches!(state, MigState::STOP_COPY | MigState::RESUMING | MigState::PRE_COPY | MigState::PRE_COPY_P2P)
}

/// Returns true if an arc makes a data fd.
fn opens_file(from: Option<MigState>, to: MigState) -> bool {
    matches!(
        (from, to),
        (Some(MigState::RUNNING), MigState::PRE_COPY)
            | (Some(MigState::RUNNING_P2P), MigState::PRE_COPY_P2P)
            | (Some(MigState::STOP), MigState::STOP_COPY | MigState::RESUMING)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CallOutcome;

    #[test]
    fn arcs_that_give_a_data_fd() {
        let gives = |from, to| opens_file(Some(from), to);
        assert!(gives(MigState::STOP, MigState::STOP_COPY));
        assert!(gives(MigState::RUNNING, MigState::PRE_COPY));
        assert!(!gives(MigState::PRE_COPY, MigState::STOP_COPY));
        assert!(!gives(MigState::PRE_COPY_P2P, MigState::PRE_COPY));
        assert!(!opens_file(None, MigState::STOP_COPY));
        assert!(has_session(MigState::RESUMING) && !has_session(MigState::STOP));
    }
    #[test]
    fn other_arcs_are_held_against_the_device_only_where_nothing_was_lost() {
        use MigState as S;
        let arcs = |states: &[MigState]| -> Vec<ExerciseArc> {
            let arc = |to: &MigState| ExerciseArc {
                from: S::RUNNING,
                to: Some(*to),
                duration_ns: None,
                outcome: CallOutcome::Ok,
            };
            states.iter().map(arc).collect()
        };
        let path = [S::RUNNING_P2P, S::STOP, S::STOP_COPY];
        let said = |seen: &[MigState], lost| off_path(&arcs(seen), &path, S::STOP_COPY, lost);
        for lost in [0, 7] {
            assert_eq!(said(&path, lost), None, "those that there must be, {lost} lost");
            assert_eq!(said(&[], lost), None, "none was seen, {lost} lost");
        }
        let wrong =
            "it went through RUNNING_P2P, STOP_COPY, and must go through RUNNING_P2P, STOP, STOP_COPY";
        assert_eq!(said(&[S::RUNNING_P2P, S::STOP_COPY], 0), Some(PathMismatch::Wrong(wrong.to_owned())));
        let unjudged = "the arcs of set STOP_COPY were not judged: records were lost, or calls not seen";
        assert_eq!(
            said(&[S::RUNNING_P2P, S::STOP_COPY], 7),
            Some(PathMismatch::Unjudged(unjudged.to_owned()))
        );
    }
}
