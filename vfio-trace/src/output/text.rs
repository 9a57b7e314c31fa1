//! Formats events as aligned lines for people, one per event.

use jiff::tz::TimeZone;

use super::{
    layout::{CellStyle, TextCell},
    line::LineCells,
};
use crate::event::{CallOutcome, ClockAnchor, VfioEvent, WallClock};
use crate::units::{
    human,
    width::{column, columns},
};

/// Format of the first column: the time of the event's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// Wall time, `15:40:20.123456`.
    #[default]
    Clock,
    /// Wall time with date and offset, `2026-11-22T15:40:20.123456+01:00`.
    Date,
    /// CLOCK_MONOTONIC in seconds, as dmesg: `12345.678901`.
    Monotonic,
    /// Seconds since the first event shown, `+1.234567`.
    Relative,
    /// Seconds since the event shown before, `+0.000412`.
    Delta,
}

/// Options of the lines, set once by `cli::events`.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// Pair of clock readings that wall times are computed from.
    pub anchor: ClockAnchor,
    /// Time zone of wall times; [`TimeZone::UTC`] for `--utc`.
    pub zone: TimeZone,
    /// Format of the first column.
    pub time: TimeFormat,
    /// True for colours. The caller decides: it knows the terminal and NO_COLOR.
    pub color: bool,
}

/// Makes lines. Columns keep their place; only a device name longer than any before moves the columns behind it.
#[derive(Clone, Debug)]
pub struct TextFormatter {
    options: TextOptions,
    clock: WallClock,
    device_width: usize,
    first_ns: Option<u64>,
    last_ns: Option<u64>,
}

/// Width of the process name: `TASK_COMM_LEN` without its NUL.
const COMM: usize = 15;
/// Width of PID and TID. Two pids of up to 7 digits (PID_MAX_LIMIT is 4194304) are rare; two of 6 fit, longer ones move
/// their line.
const PIDS: usize = 13;
/// Width of the longest kind: `precopy_info`.
const KIND: usize = 12;
/// Width of the longest arc: `PRE_COPY → PRE_COPY_P2P`, `PRE_COPY_P2P → RUNNING_P2P`.
const SUBJECT: usize = 26;
const DETAIL: usize = 27;
/// Width of a duration: `999 µs`, `12.3 ms`, `1h02m03s`.
const DURATION: usize = 8;
/// Width of a PCI address.
const DEVICE: usize = 12;
/// Widest column of devices, for which a UUID has 36. A longer name pushes its own lines to the right.
const MAX_DEVICE: usize = 64;

impl TextFormatter {
    /// Makes a formatter that has not seen an event yet.
    pub fn new(options: TextOptions) -> Self {
        let clock = options.anchor.into();
        Self { options, clock, device_width: DEVICE, first_ns: None, last_ns: None }
    }

    /// Sets the wall clock for the lines from now on; it knows of steps of CLOCK_REALTIME.
    pub fn set_clock(&mut self, clock: &WallClock) {
        self.clock = clock.clone();
    }

    /// Makes room for device names that are known before their first event.
    pub fn expect_devices(&mut self, names: &[&str]) {
        let widest = column(names.iter().map(|name| columns(&human::clean(name))), MAX_DEVICE);
        self.device_width = self.device_width.max(widest);
    }

    /// Returns the titles of the columns, with a newline.
    pub fn header(&self) -> String {
        let color = self.options.color;
        let cell = |title: &str| TextCell::of(color, CellStyle::Bold, title);
        let mut line = String::new();
        cell("TIME").left(self.time_width(), &mut line);
        for (title, width) in [
            ("DEVICE", self.device_width),
            ("THREAD", COMM),
            ("PID/TID", PIDS),
            ("EVENT", KIND),
            ("WHAT", SUBJECT),
            ("DETAILS", DETAIL),
        ] {
            line.push_str("  ");
            cell(title).left(width, &mut line);
        }
        line.push_str("  ");
        cell("TOOK").right(DURATION, &mut line);
        line.push_str("  ");
        cell("RESULT").left(0, &mut line);
        line.push('\n');
        line
    }

    /// Returns the line of an event, with a newline.
    pub fn line(&mut self, event: &VfioEvent) -> String {
        let color = self.options.color;
        let cell = |style, text: &str| TextCell::of(color, style, text);
        let device = cell(CellStyle::Plain, event.device_name().unwrap_or("?"));
        self.device_width = self.device_width.max(column([device.width()], MAX_DEVICE));
        let process = &event.process;
        let pids = format!("{}/{}", process.pid, process.tid);
        let words = LineCells::of(event, color);
        let bad = matches!(event.data.outcome(), Some(CallOutcome::Failed(_) | CallOutcome::Refused(_)));
        let mut line = String::with_capacity(200);
        let time = self.time(event.end_ns);
        cell(CellStyle::Dim, &time).right(self.time_width(), &mut line);
        for (cell, width) in [
            (device, self.device_width),
            (cell(CellStyle::Plain, &process.comm), COMM),
            (cell(CellStyle::Dim, &pids), PIDS),
            (cell(if bad { CellStyle::Plain } else { CellStyle::Bold }, event.kind().name()), KIND),
            (words.subject, SUBJECT),
            (words.detail, DETAIL),
        ] {
            line.push_str("  ");
            cell.left(width, &mut line);
        }
        line.push_str("  ");
        let took = event.duration_ns.map_or_else(String::new, human::duration);
        cell(CellStyle::Plain, &took).right(DURATION, &mut line);
        line.push_str("  ");
        words.result.left(0, &mut line);
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }

    fn time_width(&self) -> usize {
        match self.options.time {
            TimeFormat::Clock => 15,
            TimeFormat::Date => 32,
            TimeFormat::Monotonic | TimeFormat::Relative | TimeFormat::Delta => 14,
        }
    }

    fn time(&mut self, now_ns: u64) -> String {
        let first = *self.first_ns.get_or_insert(now_ns);
        let last = self.last_ns.replace(now_ns).unwrap_or(now_ns);
        let wall = || self.clock.wall(now_ns).to_zoned(self.options.zone.clone());
        match self.options.time {
            TimeFormat::Clock => wall().strftime("%H:%M:%S.%6f").to_string(),
            TimeFormat::Date => wall().strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string(),
            TimeFormat::Monotonic => seconds(now_ns),
            TimeFormat::Relative => signed(now_ns, first),
            TimeFormat::Delta => signed(now_ns, last),
        }
    }
}

/// Formats the time from `since_ns` on. Events come in the order in which they become known, so it may be negative.
fn signed(now_ns: u64, since_ns: u64) -> String {
    let sign = if now_ns < since_ns { '-' } else { '+' };
    format!("{sign}{}", seconds(now_ns.abs_diff(since_ns)))
}

fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}
