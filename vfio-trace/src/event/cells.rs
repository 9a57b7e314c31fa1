//! Words of an event's line of text, in three cells that each output lays out its own way: subject, details, result.

use super::{CallOutcome, Errno, MigState, RequestOrigin};

/// Words for a device that no process has open, so that its driver may not have set its state yet.
pub const NOT_OPEN: &str = "not open";

/// Emphasis of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellStyle {
    /// No emphasis.
    Plain,
    /// A migration state.
    State,
    /// Something that went wrong.
    Error,
    /// Text that matters less.
    Dim,
    /// Text that matters more.
    Bold,
}

/// The cells of a line that depend on the event's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellColumn {
    /// Subject: the thing that the event is about.
    Subject,
    /// Details: everything else that is known.
    Detail,
    /// Result: success, an error or a return value.
    Result,
}

/// Receiver of an event's words: a line of text, or any other output that has these three cells.
pub trait CellSink {
    /// Appends to a cell. The text may come from any process: the sink must escape control characters.
    fn add(&mut self, column: CellColumn, style: CellStyle, text: &str);

    /// Returns true if the cell is still empty.
    fn is_empty(&self, column: CellColumn) -> bool;
}

/// Writer that an event's kind uses to fill its cells.
pub struct EventCells<'a>(&'a mut dyn CellSink);

impl<'a> EventCells<'a> {
    /// Makes a writer into this sink.
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

    /// Appends text to the details, without a comma.
    pub fn detail(&mut self, text: &str) -> &mut Self {
        self.add(CellColumn::Detail, CellStyle::Plain, text)
    }

    /// Appends text to the details, without a comma, emphasised.
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

    /// Adds a state to the details, after a comma and a label.
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

    /// Adds to the subject the number of openers of a device.
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

    /// Adds the outcome.
    pub fn outcome(&mut self, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Ok => self.result("ok"),
            CallOutcome::Unknown => self.result("unknown"),
            CallOutcome::Failed(errno) => self.result_as(CellStyle::Error, &errno.name()),
            CallOutcome::Refused(errno) => self.result_as(CellStyle::Error, &format!("refused {errno}")),
        }
    }

    /// Adds a request's outcome, and that of the driver's function if it differs.
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
