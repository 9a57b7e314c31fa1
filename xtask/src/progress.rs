//! Progress of xtask for the user: one line per step, on standard error, with the time since the start.

use std::{
    io::Write as _,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Returns the time since the first line was printed.
fn elapsed() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Prints one line. A line is written in one piece, as several threads report at once.
pub(crate) fn say(message: &str) {
    let line = format!("[{:6.1}s] {message}\n", elapsed().as_secs_f64());
    // A closed standard error is no reason to stop.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}
