//! Reports each step: a line for people, an object for tests.

use std::io::{self, Write as _};
use std::time::Duration;

use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;

use crate::errno;
use crate::evidence::Lines;

/// Result of a step: its errno, if it failed, and the values that it saw. Made by `bench.rs`, reported by [`Recorder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) errno: Option<Errno>,
    pub(crate) values: Value,
    /// The values as text for people.
    pub(crate) told: String,
}

impl Outcome {
    pub(crate) fn of<T>(result: Result<T, Errno>, tell: impl FnOnce(T) -> (Value, String)) -> Self {
        match result {
            Ok(seen) => {
                let (values, told) = tell(seen);
                Self { errno: None, values, told }
            },
            Err(errno) => Self {
                errno: Some(errno),
                values: Value::Object(serde_json::Map::new()),
                told: String::new(),
            },
        }
    }

    /// Returns the main value of the step as text: the one that a step's `-> VALUE` is compared with.
    pub(crate) fn value(&self) -> Option<String> {
        let seen = ["bytes", "state", "value", "stop_copy_length", "initial_bytes", "flags"]
            .into_iter()
            .find_map(|name| self.values.get(name))?;
        Some(seen.as_str().map_or_else(|| seen.to_string(), str::to_owned))
    }

    /// Returns the outcome of a step whose success has no values.
    pub(crate) fn plain(result: Result<(), Errno>) -> Self {
        Self::of(result, |()| (Value::Object(serde_json::Map::new()), String::new()))
    }
}

/// Result that a step has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Success,
    Errno(i32),
    /// Any result, as the result is what the test wants to know.
    Anything,
}

impl Expected {
    fn holds(self, number: Option<i32>) -> bool {
        match self {
            Self::Success => number.is_none(),
            Self::Errno(wanted) => number == Some(wanted),
            Self::Anything => true,
        }
    }

    fn errno(self) -> Option<String> {
        if let Self::Errno(wanted) = self { Some(errno::name(wanted)) } else { None }
    }
}

/// One object of the `--json` file.
#[derive(Debug, Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<&'a str>,
    index: usize,
    step: &'a str,
    /// Position of the device, counted from 1.
    position: usize,
    device: &'a str,
    pid: u32,
    /// `CLOCK_MONOTONIC` before the step.
    start_ns: u64,
    end_ns: u64,
    /// True if no step asked for it: opening, clean-up, closing.
    implicit: bool,
    result: &'static str,
    errno: Option<String>,
    errno_number: Option<i32>,
    expected_errno: Option<String>,
    expected_value: Option<&'a str>,
    as_expected: bool,
    values: &'a Value,
}

/// A step that has ended, to be recorded.
#[derive(Debug)]
pub(crate) struct Done<'a> {
    pub(crate) step: &'a str,
    pub(crate) position: usize,
    pub(crate) device: &'a str,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) implicit: bool,
    pub(crate) expected: Expected,
    pub(crate) value: Option<&'a str>,
    pub(crate) outcome: &'a Outcome,
}

/// The reporter of all steps, in order.
#[derive(Debug)]
pub(crate) struct Recorder {
    lines: Option<Lines>,
    index: usize,
    scenario: Option<String>,
}

impl Recorder {
    pub(crate) fn new(lines: Option<Lines>) -> Self {
        Self { lines, index: 0, scenario: None }
    }

    /// Sets the scenario that each object names from now on.
    pub(crate) fn scenario(&mut self, name: &str) {
        self.scenario = Some(name.to_owned());
    }

    /// Reports a step. Returns true if it came out as expected.
    pub(crate) fn record(&mut self, done: &Done<'_>) -> bool {
        let number = done.outcome.errno.map(Errno::raw_os_error);
        let as_expected = done.expected.holds(number)
            && done.value.is_none_or(|wanted| done.outcome.value().as_deref() == Some(wanted));
        let result = if number.is_some() { "error" } else { "ok" };
        let record = Record {
            scenario: self.scenario.as_deref(),
            index: self.index,
            step: done.step,
            position: done.position,
            device: done.device,
            pid: std::process::id(),
            start_ns: done.start_ns,
            end_ns: done.end_ns,
            implicit: done.implicit,
            result,
            errno: number.map(errno::name),
            errno_number: number,
            expected_errno: done.expected.errno(),
            expected_value: done.value,
            as_expected,
            values: &done.outcome.values,
        };
        if let Some(lines) = &self.lines {
            lines.write(&record);
        }
        self.index += 1;
        // The reader may have gone; the devices' clean-up matters more than the line.
        drop(writeln!(io::stdout().lock(), "{}", line(done, number, as_expected)));
        as_expected
    }

    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        self.lines.as_ref().map_or(Ok(()), Lines::finish)
    }
}

/// Joins text of several lines into one line.
pub(crate) fn in_line(text: &str) -> String {
    text.replace('\n', ", ")
}

/// Returns the line for people: `1  set=PRE_COPY              ok            0.12 ms  data fd 7`.
fn line(done: &Done<'_>, number: Option<i32>, as_expected: bool) -> String {
    let took = Duration::from_nanos(done.end_ns.saturating_sub(done.start_ns)).as_secs_f64() * 1e3;
    let result =
        number.map_or_else(|| "ok".to_owned(), |number| format!("{} ({number})", errno::name(number)));
    let remark = match (as_expected, done.expected) {
        (true, Expected::Errno(_)) => "as expected".to_owned(),
        (true, Expected::Success | Expected::Anything) => done.outcome.told.clone(),
        (false, Expected::Errno(wanted)) if number != Some(wanted) => {
            format!("FAILED: expected {}", errno::name(wanted))
        },
        (false, _) => done.value.map_or_else(
            || "FAILED".to_owned(),
            |wanted| format!("FAILED: expected {}, saw {}", in_line(wanted), done.outcome.told),
        ),
    };
    let step = if done.implicit { format!("({})", done.step) } else { done.step.to_owned() };
    format!("{}  {step:<34} {result:<14} {took:9.3} ms  {remark}", done.position).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn done<'a>(step: &'a str, outcome: &'a Outcome, expected: Expected) -> Done<'a> {
        Done {
            step,
            position: 1,
            device: "dev",
            start_ns: 1_000,
            end_ns: 124_000,
            implicit: false,
            expected,
            value: None,
            outcome,
        }
    }

    #[test]
    fn success_and_failure_against_the_expectation() {
        let good = Outcome::of(Ok(7), |fd| (json!({"data_fd": fd}), format!("data fd {fd}")));
        let bad = Outcome::plain(Err(Errno::INVAL));
        let mut recorder = Recorder::new(None);
        assert!(recorder.record(&done("set=PRE_COPY", &good, Expected::Success)));
        assert!(!recorder.record(&done("set=PRE_COPY", &good, Expected::Errno(22))));
        assert!(!recorder.record(&done("set=9", &bad, Expected::Success)));
        assert!(recorder.record(&done("set=9", &bad, Expected::Errno(22))));
        assert!(!recorder.record(&done("set=9", &bad, Expected::Errno(5))));
        assert!(recorder.record(&done("matrix", &bad, Expected::Anything)));
        let read = Outcome::of(Ok(40), |bytes| (json!({"bytes": bytes}), String::new()));
        let read = done("read=64", &read, Expected::Success);
        assert!(recorder.record(&Done { value: Some("40"), ..read }));
    }

    #[test]
    fn lines_are_aligned() {
        let good = Outcome::of(Ok(7), |fd| (json!({"data_fd": fd}), format!("data fd {fd}")));
        assert_eq!(
            line(&done("set=PRE_COPY", &good, Expected::Success), None, true),
            "1  set=PRE_COPY                       ok                 0.123 ms  data fd 7"
        );
        let bad = Outcome::plain(Err(Errno::INVAL));
        assert_eq!(
            line(&done("set=9", &bad, Expected::Success), Some(22), false),
            "1  set=9                              EINVAL (22)        0.123 ms  FAILED"
        );
    }
}
