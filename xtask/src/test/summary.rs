//! The summary of a run: a line per check as it ends, then failures, tests that were left out, second tries, and the
//! total time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Error, Result};

use super::{
    Found, Skipped, may_skip,
    notes::{LeftOut, Notes},
};

/// Result of a check.
enum Verdict {
    Passed(Found),
    Skipped(String),
    Failed(String),
}

/// A check that has ended.
struct Ended {
    verdict: Verdict,
    took: Duration,
    notes: Notes,
}

/// All checks that have ended, by their position. `mod.rs` adds each result; [`Self::finish`] makes the summary.
pub(super) struct Account<'names> {
    names: Vec<&'names str>,
    /// True if a skip is a failure.
    strict: bool,
    ended: BTreeMap<usize, Ended>,
}

impl<'names> Account<'names> {
    pub(super) fn new(names: Vec<&'names str>, strict: bool) -> Self {
        Self { names, strict, ended: BTreeMap::new() }
    }

    /// Keeps a result. Returns the lines to print for it.
    pub(super) fn add(
        &mut self,
        check: usize,
        result: Result<Found>,
        took: Duration,
        notes: Notes,
    ) -> Vec<String> {
        let name = self.names.get(check).copied().unwrap_or_default();
        let verdict = self.judge(name, result);
        let seconds = took.as_secs_f64();
        let line = match &verdict {
            Verdict::Passed(Found { detail, .. }) => format!("ok    {name:<28} {seconds:6.1} s  {detail}"),
            Verdict::Skipped(why) => format!("SKIP  {name:<28} {seconds:6.1} s  NOT CHECKED: {why}"),
            Verdict::Failed(why) => format!("FAIL  {name:<28} {seconds:6.1} s  {why}"),
        };
        let vms = match notes.boots {
            0 => String::new(),
            1 => format!(" [VM {:.0} s of CPU]", notes.cpu.as_secs_f64()),
            boots => format!(" [{boots} VMs {:.0} s of CPU]", notes.cpu.as_secs_f64()),
        };
        let tried = match notes.retries.as_slice() {
            [] => String::new(),
            tried => format!("; tried again {}: {}", times(tried.len()), tried.join("; ")),
        };
        let mut lines: Vec<String> = notes.lines.iter().map(|line| format!("      {line}")).collect();
        lines.push([line, tried, vms].concat());
        self.ended.insert(check, Ended { verdict, took, notes });
        lines
    }

    fn judge(&self, name: &str, result: Result<Found>) -> Verdict {
        match result {
            Ok(found) => Verdict::Passed(found),
            Err(error) if error.downcast_ref::<Skipped>().is_some() => self.skipped(name, &error),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        }
    }

    fn skipped(&self, name: &str, error: &Error) -> Verdict {
        let allowed = may_skip::CHECKS.iter().find(|(allowed, _)| *allowed == name);
        match allowed {
            Some((_, reason)) => Verdict::Skipped(format!("{error:#} (on the list: {reason})")),
            None if self.strict => {
                Verdict::Failed(format!("skipped, and nothing may be here (may_skip.rs): {error:#}"))
            },
            None => Verdict::Skipped(format!("{error:#}")),
        }
    }

    /// Returns the unit tests that were left out and have neither a check that passed instead nor an entry of the list.
    fn unaccounted(&self) -> Vec<&LeftOut> {
        let passed = |wanted: &str| {
            self.ended
                .iter()
                .any(|(check, one)| self.names.get(*check) == Some(&wanted) && one.passed().is_some())
        };
        let covered = |test: &str| {
            may_skip::COVERED.iter().any(|(covered, check)| *covered == test && passed(check))
                || may_skip::UNIT_TESTS.iter().any(|(allowed, _)| *allowed == test)
        };
        let all = self.ended.values().flat_map(|one| &one.notes.left_out);
        all.filter(|left_out| !covered(&left_out.test)).collect()
    }

    fn of(&self, is: impl Fn(&Verdict) -> bool) -> Vec<&str> {
        let them = self.ended.iter().filter(|(_, one)| is(&one.verdict));
        them.filter_map(|(check, _)| self.names.get(*check).copied()).collect()
    }

    /// Returns the end of the report, and true if all is well.
    pub(super) fn finish(&self, wall: Duration, folder: &str, whole: bool) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let mut report = |line: String| lines.push(line);
        let failed = self.of(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = self.of(|verdict| matches!(verdict, Verdict::Skipped(_)));
        if !failed.is_empty() {
            report(format!("failed: {} (what they left is in {folder})", failed.join(", ")));
        }
        if !skipped.is_empty() {
            report(format!("SKIPPED, so not known to work: {}", skipped.join(", ")));
        }
        let open = self.unaccounted();
        for LeftOut { test, why } in &open {
            report(format!("unit test NOT RUN: {test}: {why}"));
        }
        // Only after a run of all checks it is known that none of them ran a test.
        let open_is_failure = self.strict && whole && !open.is_empty();
        if open_is_failure {
            report(
                "failed: unit tests that test nothing here, and no check runs them (may_skip.rs)".to_owned(),
            );
        }
        for (check, one) in self.ended.iter().filter(|(_, one)| !one.notes.retries.is_empty()) {
            let name = self.names.get(*check).copied().unwrap_or_default();
            report(format!("tried again: {name}: {}", one.notes.retries.join("; ")));
        }
        let sum = |number: fn(&Ended) -> u64| self.ended.values().map(number).sum::<u64>();
        let passed = sum(|one| one.passed().map_or(0, |found| found.tests));
        let retries = sum(|one| one.notes.retries.len() as u64);
        let left_out = sum(|one| one.notes.left_out.len() as u64);
        let took: Duration = self.ended.values().map(|one| one.took).sum();
        report(format!("time: {} in all, the checks one by one {}", minutes(wall), minutes(took)));
        report(format!(
            "{passed} passed, {} failed, {} skipped, {left_out} unit tests left out ({} of them run by no check), \
             {retries} tried again",
            failed.len() + usize::from(open_is_failure),
            skipped.len(),
            open.len()
        ));
        let fine = failed.is_empty() && !open_is_failure && !self.ended.is_empty();
        (lines, fine)
    }
}

impl Ended {
    const fn passed(&self) -> Option<&Found> {
        match &self.verdict {
            Verdict::Passed(found) => Some(found),
            _ => None,
        }
    }
}

fn times(number: usize) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// Returns a text such as `12 min 5 s`.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::{super::skip, *};

    fn account(strict: bool) -> Account<'static> {
        Account::new(vec!["one", "export: every kind of thing"], strict)
    }

    fn left_out(test: &str) -> Notes {
        let test = LeftOut { test: test.to_owned(), why: "why".to_owned() };
        Notes { left_out: vec![test], ..Notes::default() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_skip_is_a_failure_where_all_has_to_be_tested() {
        for (strict, begins) in [(false, "SKIP "), (true, "FAIL ")] {
            let mut account = account(strict);
            let lines = account.add(0, Err(skip("no browser")), SECOND, Notes::default());
            assert!(lines[0].starts_with(begins) && lines[0].contains("no browser"), "{lines:?}");
            assert_eq!(account.finish(SECOND, "-", true).1, !strict);
        }
    }

    #[test]
    fn a_unit_test_that_no_check_runs_is_a_failure_where_all_has_to_be_tested() {
        let ok = || Ok(Found::one("fine"));
        for (strict, test, fine) in [
            (false, "other::test", true),
            (true, "other::test", false),
            (true, "output::export::tests::files_for_others", true),
        ] {
            let mut account = account(strict);
            account.add(0, ok(), SECOND, left_out(test));
            account.add(1, ok(), SECOND, Notes::default());
            assert_eq!(account.finish(SECOND, "-", true).1, fine, "{strict} {test}");
        }
        let mut account = account(true);
        account.add(0, ok(), SECOND, left_out("output::export::tests::files_for_others"));
        account.add(1, Err(anyhow::anyhow!("broken")), SECOND, Notes::default());
        assert_eq!(account.unaccounted().len(), 1, "the check that runs it failed");
    }

    #[test]
    fn second_tries_are_in_the_line_of_their_check() {
        let notes = Notes { retries: vec!["vft (ETIMEDOUT)".to_owned()], ..Notes::default() };
        let lines = account(false).add(0, Ok(Found::one("fine")), SECOND, notes);
        assert!(lines[0].ends_with("fine; tried again once: vft (ETIMEDOUT)"), "{lines:?}");
    }

    #[test]
    fn nothing_checked_is_no_success() {
        assert!(!account(false).finish(SECOND, "-", true).1);
    }
}
