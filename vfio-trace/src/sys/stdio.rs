//! Standard output as this process was given it: where it is closed, Rust's runtime puts /dev/null there before `main`.

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: the call takes and gives numbers only.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
}

/// Function that the C library calls before `main`, and so before Rust's runtime opens anything.
#[used]
// SAFETY: the section is a table of pointers to such functions; this one needs nothing that is not there yet.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Returns true if this process was started without standard output (`>&-`).
pub fn stdout_was_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for a process that is this test alone.
    const INSIDE: &str = "VFIO_TRACE_TEST_STDOUT";

    #[test]
    fn a_standard_output_that_was_closed_is_told_from_dev_null() {
        if std::env::var_os(INSIDE).is_some() {
            eprintln!("inside: closed {}", stdout_was_closed());
            return;
        }
        let name = "sys::stdio::tests::a_standard_output_that_was_closed_is_told_from_dev_null";
        for (place, closed) in [(">&-", true), (">/dev/null", false), ("<>/dev/null >&0", false)] {
            let line = format!("exec \"$0\" --exact {name} --nocapture {place}");
            let test = std::env::current_exe().unwrap();
            let ran = Command::new("sh").args(["-c", &line]).arg(test).env(INSIDE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(said.contains(&format!("inside: closed {closed}")), "{place}: {said}");
        }
    }
}
