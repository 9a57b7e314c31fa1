//! What a line of text says about an event, in cells that an output fills its own way: subject, details, result.

use super::{CallOutcome, Errno, MigState, RequestOrigin};

/// Words for a device that nobody has open, so that its driver may not have set its state yet.
pub const NOT_OPEN: &str = "not open";

/// How a piece of text is emphasised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellStyle {
    /// Not at all.
    Plain,
    /// It is a migration state.
    State,
    /// It went wrong.
    Error,
    /// It matters less.
    Dim,
    /// It matters more.
    Bold,
}

/// The cells of a line that depend on the event's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellColumn {
    /// What the event is about.
    Subject,
    /// What else is known.
    Detail,
    /// How it ended.
    Result,
}

/// Receiver of an event's words: a line of text, or any other output that has these three cells.
pub trait CellSink {
    /// Appends to a cell. The text is anybody's: what could steer a terminal is the sink's to escape.
    fn add(&mut self, column: CellColumn, style: CellStyle, text: &str);

    /// Returns true if nothing is in a cell yet.
    fn is_empty(&self, column: CellColumn) -> bool;
}

/// Pen with which an event's kind writes its cells.
pub struct EventCells<'a>(&'a mut dyn CellSink);

impl<'a> EventCells<'a> {
    /// Writes into this sink.
    pub fn new(sink: &'a mut dyn CellSink) -> Self {
        Self(sink)
    }

    /// Adds to the subject.
    pub fn subject(&mut self, text: &str) -> &mut Self {
        self.add(CellColumn::Subject, CellStyle::Plain, text)
    }

    /// Adds to the subject, emphasised.
    pub fn subject_as(&mut self, style: CellStyle, text: &str) -> &mut Self {
        self.add(CellColumn::Subject, style, text)
    }

    /// Adds a state to the subject.
    pub fn subject_state(&mut self, state: MigState) -> &mut Self {
        self.add(CellColumn::Subject, style_of(state), &state.to_string())
    }

    /// Adds to the details as it is.
    pub fn detail(&mut self, text: &str) -> &mut Self {
        self.add(CellColumn::Detail, CellStyle::Plain, text)
    }

    /// Adds to the details as it is, emphasised.
    pub fn detail_as(&mut self, style: CellStyle, text: &str) -> &mut Self {
        self.add(CellColumn::Detail, style, text)
    }

    /// Adds a state to the details.
    pub fn detail_state(&mut self, state: MigState) -> &mut Self {
        self.add(CellColumn::Detail, style_of(state), &state.to_string())
    }

    /// Adds to the details, after a comma.
    pub fn more(&mut self, text: &str) -> &mut Self {
        if !self.0.is_empty(CellColumn::Detail) {
            self.detail(", ");
        }
        self.detail(text)
    }

    /// Adds a state to the details, after a comma and what it is.
    pub fn more_state(&mut self, what: &str, state: Option<MigState>) -> &mut Self {
        self.more(what);
        match state {
            Some(state) => self.detail_state(state),
            None => self.detail("unknown"),
        }
    }

    /// Adds that a request was not made by ioctl.
    pub fn via(&mut self, via: RequestOrigin) {
        if via == RequestOrigin::Driver {
            self.more("not by ioctl");
        }
    }

    /// Adds the number of a data session.
    pub fn session(&mut self, session: Option<u32>) {
        if let Some(session) = session {
            self.more(&format!("session {session}"));
        }
    }

    /// Adds to the subject how many have a device open.
    pub fn openers(&mut self, count: Option<u32>, what: &str) {
        if let Some(count) = count {
            self.subject(&format!("{count} {what}"));
        }
    }

    /// Adds to the result.
    pub fn result(&mut self, text: &str) {
        self.result_as(CellStyle::Plain, text);
    }

    /// Adds to the result, emphasised.
    pub fn result_as(&mut self, style: CellStyle, text: &str) {
        self.add(CellColumn::Result, style, text);
    }

    /// Adds how it ended.
    pub fn outcome(&mut self, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Ok => self.result("ok"),
            CallOutcome::Unknown => self.result("unknown"),
            CallOutcome::Failed(errno) => self.result_as(CellStyle::Error, &errno.name()),
            CallOutcome::Refused(errno) => self.result_as(CellStyle::Error, &format!("refused {errno}")),
        }
    }

    /// Adds how a request ended, and how the driver's function did, if otherwise.
    pub fn outcomes(&mut self, outcome: CallOutcome, driver_call: Option<CallOutcome>) {
        self.outcome(outcome);
        if let Some(driver) = driver_call.filter(|&driver| driver != outcome) {
            let said = driver.errno().map_or_else(|| driver.name().into(), Errno::name);
            self.result(&format!(" (driver: {said})"));
        }
    }

    fn add(&mut self, column: CellColumn, style: CellStyle, text: &str) -> &mut Self {
        self.0.add(column, style, text);
        self
    }
}

/// Returns the text, or a question mark.
pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "?".to_owned())
}

fn style_of(state: MigState) -> CellStyle {
    if state == MigState::ERROR || !state.is_valid() { CellStyle::Error } else { CellStyle::State }
}
