//! Waits with a name and a timeout, so that each of them ends.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Interval between two looks: too short to matter in a test's duration, long enough for others to use an emulated CPU.
const POLL: Duration = Duration::from_millis(10);

/// Calls `ready` again and again until it has an answer. Its errors end the wait at once.
pub(crate) fn until<T>(
    what: &str,
    timeout: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!(
                "timed out after {} s waiting for {what}; raise --timeout if this machine is slow",
                timeout.as_secs()
            );
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait() {
        let mut left = 3;
        let answer = until("a countdown", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(answer.unwrap(), "done");
    }

    #[test]
    fn a_timeout_names_what_was_waited_for() {
        let error = until("Godot", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("waiting for Godot"), "{error}");
    }
}
