//! How far the reading of a long file is.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crate::sink::human;

/// How far it is, for a person who waits.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
    wanted: bool,
    last: Instant,
}

impl Progress {
    /// `what`: a word for it. Nothing is shown in the first second, nor between lines on a terminal.
    pub(super) fn new(what: &'static str) -> Self {
        let wanted = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self { what, shown: false, wanted, last: Instant::now() + Duration::from_millis(800) }
    }

    pub(super) fn show(&mut self, (done, total): (u64, Option<u64>)) {
        if !self.wanted || self.last > Instant::now() {
            return;
        }
        self.last = Instant::now() + Duration::from_millis(200);
        let text = match total.filter(|total| *total > 0) {
            Some(total) => {
                let percent = done.saturating_mul(100) / total;
                format!("{percent} %, {} of {}", human::bytes(done), human::bytes(total))
            },
            None => human::bytes(done),
        };
        put(&format!("\r\x1b[K{}: {text}", self.what));
        self.shown = true;
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            put("\r\x1b[K");
        }
    }
}

fn put(text: &str) {
    let mut stderr = io::stderr();
    // Nobody left to read it is no reason to stop.
    let _gone = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).is_err();
}
