//! Parses mtty's dynamic debug messages in `dmesg.txt` into the events of each device.

use std::collections::BTreeMap;

use crate::states::MigState;

/// Time of a message: microseconds of the kernel log's clock (`sched_clock`). It starts at boot as CLOCK_MONOTONIC
/// does, but is not disciplined, so the two are milliseconds apart: compare orders, not times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub u64);

/// An arc that mtty began (`mtty_step_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MttyArc {
    /// Time at which it began.
    pub at: At,
    /// State that it left.
    pub from: MigState,
    /// State to which it leads.
    pub to: MigState,
    /// True if the arc failed and the state stayed: loading found too few bytes.
    pub failed: bool,
}

/// A read() of the saving data fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MttyRead {
    /// Time at which it began.
    pub at: At,
    /// Length that was asked for.
    pub asked: u64,
    /// Number of bytes it returned, or its errno.
    pub result: Result<u64, i32>,
}

/// A write() to the resuming data fd that got as far as copying the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MttyWrite {
    /// Time at which mtty received it.
    pub at: At,
    /// Its length; mtty takes a write whole.
    pub bytes: u64,
    /// Number of bytes of the session so far.
    pub total: u64,
    /// True if the header that it completed was refused: the write() returned -EFAULT although its bytes were taken.
    pub refused: bool,
}

/// One action of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MttyEvent {
    /// A call of `mtty_set_state`, logged before its arcs; also if the state is the current one.
    SetState {
        /// Time of the call.
        at: At,
        /// State that was asked for.
        target: MigState,
    },
    /// One arc.
    Arc(MttyArc),
    /// One read.
    Read(MttyRead),
    /// One write.
    Write(MttyWrite),
}

/// All actions of one device, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MttyDevice {
    /// All events, in the order of the log.
    pub events: Vec<MttyEvent>,
}

/// A parsed `dmesg.txt`. [`Self::parse`] makes it; the checks of xtask compare a trace with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MttyLog {
    /// Devices by name (the mdev's UUID). A device that was removed and created again is one device here.
    pub devices: BTreeMap<String, MttyDevice>,
    /// Calls of `mtty_reset`; the message does not name the device.
    pub resets: Vec<At>,
    /// Number of records that the kernel's ring buffer lost. If it is not 0 the lists are not complete.
    pub lost: u64,
}

impl MttyLog {
    /// Parses the whole file. Lines of other modules are skipped.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            log.line(line);
        }
        log
    }

    /// Returns a device's events; an unknown device has none.
    pub fn device(&self, name: &str) -> MttyDevice {
        self.devices.get(name).cloned().unwrap_or_default()
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("# lost ") {
            self.lost += rest.split(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(1);
            return;
        }
        let Some((at, text)) = timestamp(line) else { return };
        if text == "mtty_reset: called" {
            self.resets.push(at);
        } else if let Some((name, message)) =
            text.strip_prefix("mtty ").and_then(|rest| rest.split_once(": "))
        {
            self.devices.entry(name.to_owned()).or_default().message(at, message);
        }
    }
}

/// Splits `[   14.203117] text` into time and text; a caller may be in between (`[ 14.203117][ T123] text`).
fn timestamp(line: &str) -> Option<(At, &str)> {
    let (time, text) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, fraction) = time.trim().split_once('.')?;
    let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)?;
    let text = match text.strip_prefix('[') {
        Some(caller) => caller.split_once(']')?.1,
        None => text,
    };
    Some((At(micros), text.trim_start()))
}

impl MttyDevice {
    /// Returns the states that were asked for.
    pub fn targets(&self) -> Vec<MigState> {
        self.events
            .iter()
            .filter_map(
                |event| if let MttyEvent::SetState { target, .. } = event { Some(*target) } else { None },
            )
            .collect()
    }

    /// Returns the arcs that were begun, failed ones included.
    pub fn arcs(&self) -> Vec<MttyArc> {
        self.events
            .iter()
            .filter_map(|event| if let MttyEvent::Arc(arc) = event { Some(*arc) } else { None })
            .collect()
    }

    /// Returns the arcs as pairs of states, without the failed ones.
    pub fn arc_pairs(&self) -> Vec<(MigState, MigState)> {
        self.arcs().into_iter().filter(|arc| !arc.failed).map(|arc| (arc.from, arc.to)).collect()
    }

    /// Returns the reads of the data fd.
    pub fn reads(&self) -> Vec<MttyRead> {
        self.events
            .iter()
            .filter_map(|event| if let MttyEvent::Read(read) = event { Some(*read) } else { None })
            .collect()
    }

    /// Returns the writes to the data fd.
    pub fn writes(&self) -> Vec<MttyWrite> {
        self.events
            .iter()
            .filter_map(|event| if let MttyEvent::Write(write) = event { Some(*write) } else { None })
            .collect()
    }

    /// Returns the number of bytes that all reads returned.
    pub fn bytes_read(&self) -> u64 {
        self.reads().iter().filter_map(|read| read.result.ok()).sum()
    }

    /// Returns the number of bytes of all writes, refused ones included.
    pub fn bytes_written(&self) -> u64 {
        self.writes().iter().map(|write| write.bytes).sum()
    }

    fn message(&mut self, at: At, message: &str) {
        let numbers = numbers(message);
        let event = match (message.split([' ', ':']).next(), numbers.as_slice()) {
            (Some("mtty_set_state"), &[target]) => MttyEvent::SetState { at, target: state(target) },
            (Some("mtty_step_state"), &[from, to]) => {
                MttyEvent::Arc(MttyArc { at, from: state(from), to: state(to), failed: false })
            },
            (Some("mtty_save_read"), &[number]) if message.contains(" ask ") => {
                MttyEvent::Read(MttyRead { at, asked: number, result: Ok(0) })
            },
            (Some("mtty_save_read"), &[number]) => return self.end_read(number),
            (Some("mtty_resume_write"), &[bytes, total]) => {
                MttyEvent::Write(MttyWrite { at, bytes, total, refused: false })
            },
            (Some("mtty_resume_write"), _) if message.ends_with("failed validation") => {
                return self.refuse_write();
            },
            (Some("mtty_load_state"), &[_expected, _got]) => return self.fail_arc(),
            _ => return,
        };
        self.events.push(event);
    }

    /// Takes the second message of a read. A failed one prints its negative ssize_t as a size_t.
    fn end_read(&mut self, number: u64) {
        let signed = number.cast_signed();
        let result =
            i32::try_from(signed.wrapping_neg()).ok().filter(|errno| *errno > 0).map_or(Ok(number), Err);
        if let Some(MttyEvent::Read(read)) =
            self.events.iter_mut().rev().find(|event| matches!(event, MttyEvent::Read(_)))
        {
            read.result = result;
        }
    }

    fn refuse_write(&mut self) {
        if let Some(MttyEvent::Write(write)) =
            self.events.iter_mut().rev().find(|event| matches!(event, MttyEvent::Write(_)))
        {
            write.refused = true;
        }
    }

    fn fail_arc(&mut self) {
        if let Some(MttyEvent::Arc(arc)) =
            self.events.iter_mut().rev().find(|event| matches!(event, MttyEvent::Arc(_)))
        {
            arc.failed = true;
        }
    }
}

fn state(number: u64) -> MigState {
    MigState(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Returns the numbers that stand alone in a message: the `2` in a function's name is none.
fn numbers(message: &str) -> Vec<u64> {
    message.split([' ', ',', ':']).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "11111111-1111-1111-1111-111111111111";
    const B: &str = "22222222-2222-2222-2222-222222222222";

    fn log(lines: &[(&str, &str)]) -> MttyLog {
        let told = |(micros, (device, message)): (u32, &(&str, &str))| {
            format!("[  100.{micros:06}] mtty {device}: {message}")
        };
        let text = (0..).zip(lines).map(told).collect::<Vec<_>>().join("\n");
        MttyLog::parse(&text)
    }

    #[test]
    fn a_save() {
        let log = log(&[
            (A, "mtty_set_state -> 6"),
            (A, "mtty_step_state: 2 -> 6"),
            (A, "mtty_save_device_data filled header to 24"),
            (A, "mtty_save_read ask 1048576"),
            (A, "mtty_save_read read 24"),
            (A, "mtty_set_state -> 3"),
            (A, "mtty_step_state: 6 -> 7"),
            (A, "mtty_step_state: 7 -> 3"),
            (A, "mtty_save_state filled to 96"),
            (A, "mtty_save_read ask 1048576"),
            (A, "mtty_save_read read 72"),
            (A, "mtty_save_read ask 1048576"),
            (A, "mtty_save_read read 0"),
        ]);
        let device = log.device(A);
        assert_eq!(device.targets(), [MigState::PRE_COPY, MigState::STOP_COPY]);
        assert_eq!(
            device.arc_pairs(),
            [
                (MigState::RUNNING, MigState::PRE_COPY),
                (MigState::PRE_COPY, MigState::PRE_COPY_P2P),
                (MigState::PRE_COPY_P2P, MigState::STOP_COPY),
            ]
        );
        let reads: Vec<_> = device.reads().into_iter().map(|read| read.result).collect();
        assert_eq!(reads, [Ok(24), Ok(72), Ok(0)]);
        assert_eq!((device.bytes_read(), device.reads()[0].asked), (96, 1_048_576));
        assert_eq!(device.events[0], MttyEvent::SetState { at: At(100_000_000), target: MigState::PRE_COPY });
        assert_eq!(log.device(B), MttyDevice::default());
    }

    #[test]
    fn a_resume_and_a_refused_one() {
        let log = log(&[
            (B, "mtty_resume_write received 24, total 24"),
            (B, "mtty_resume_write header validated"),
            (A, "mtty_resume_write received 24, total 24"),
            (A, "mtty_resume_write failed validation"),
            (B, "mtty_resume_write received 72, total 96"),
        ]);
        assert_eq!(log.device(B).bytes_written(), 96);
        assert!(log.device(B).writes().iter().all(|write| !write.refused));
        assert_eq!(
            log.device(A).writes(),
            [MttyWrite { at: At(100_000_002), bytes: 24, total: 24, refused: true }]
        );
    }

    #[test]
    fn failures_that_hide() {
        let log = log(&[
            // -ENODEV through %zu.
            (A, "mtty_save_read ask 1"),
            (A, "mtty_save_read read 18446744073709551597"),
            // An image that is too short.
            (A, "mtty_set_state -> 2"),
            (A, "mtty_step_state: 4 -> 1"),
            (A, "mtty_load_state expected 96, got 24"),
        ]);
        let device = log.device(A);
        assert_eq!(device.reads()[0].result, Err(19));
        assert!(device.arcs()[0].failed);
        assert!(device.arc_pairs().is_empty());
    }

    #[test]
    fn a_real_log_has_other_lines_too() {
        let text = "[   11.000001] mdev: loading out-of-tree module taints kernel.\n\
                    [   11.200000] mtty_dev: mtty_dev_init\n\
                    [   12.000003] vfio_mdev whatever: MDEV: group_id = 0\n\
                    [   14.203117][ T1234] mtty 11111111-1111-1111-1111-111111111111: mtty_set_state -> 1\n\
                    [   14.300000] mtty_reset: called\n\
                    no timestamp at all\n\
                    # lost 12 records before this one\n\
                    # end: 6 records, 12 lost\n";
        let log = MttyLog::parse(text);
        assert_eq!(log.devices.len(), 1);
        assert_eq!(log.device(A).targets(), [MigState::STOP]);
        assert_eq!((log.resets.as_slice(), log.lost), ([At(14_300_000)].as_slice(), 12));
    }
}
