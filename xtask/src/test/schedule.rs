//! The order of the checks: checks that share something run one after the other, others side by side, those that race
//! with a clock one at a time and before the others.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

/// Properties of a check that decide when it may run. Set by the functions of [`super::Check`].
#[derive(Clone, Debug)]
pub(super) struct Needs {
    /// Approximate duration in seconds, on two cores.
    pub(super) seconds: u32,
    /// True if it races with a clock: it runs never beside another such check, and with a higher priority.
    pub(super) alone: bool,
    /// Things that it shares with others (a boot, a folder, cargo's lock): they run one after the other.
    pub(super) shared: Vec<String>,
}

impl Default for Needs {
    /// Returns the needs of most checks: a boot, and a look at its files.
    fn default() -> Self {
        Self { seconds: 20, alone: false, shared: Vec::new() }
    }
}

/// Checks that run one after the other, by their position.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    checks: Vec<usize>,
    seconds: u32,
    alone: bool,
    /// True if it uses the results of several other jobs.
    last: bool,
}

/// Puts checks that share one thing into one job. Those that share several come when all others are done.
fn jobs(needs: &[Needs]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (check, need) in needs.iter().enumerate() {
        let place = match need.shared.as_slice() {
            [one] => places.get(one.as_str()).copied(),
            _ => None,
        };
        if let Some(job) = place.and_then(|place| jobs.get_mut(place)) {
            job.checks.push(check);
            job.seconds += need.seconds;
            job.alone |= need.alone;
            continue;
        }
        if let [one] = need.shared.as_slice() {
            places.insert(one, jobs.len());
        }
        let (seconds, alone, last) = (need.seconds, need.alone, need.shared.len() > 1);
        jobs.push(Job { checks: vec![check], seconds, alone, last });
    }
    // The first in the list (format, lints, unit tests) fail soonest. Then the longest, so that at the end no lane
    // waits for another.
    let is_first = |job: &Job| job.checks.first() == Some(&0);
    jobs.sort_by_key(|job| (job.last, !is_first(job), !job.alone, std::cmp::Reverse(job.seconds)));
    jobs
}

/// The jobs that wait, and the number of those that run.
#[derive(Debug)]
struct State {
    waiting: Vec<Job>,
    running: usize,
    alone: bool,
}

impl State {
    /// Returns the next job that may start now.
    fn next(&mut self, first_right: bool) -> Option<Job> {
        let others = self.waiting.iter().any(|job| !job.last);
        let (running, alone) = (self.running, self.alone);
        let may = |job: &Job| match job {
            Job { last: true, .. } => running == 0 && !others,
            Job { alone: true, .. } => !alone && (first_right || running == 0),
            Job { .. } => first_right || !alone,
        };
        let job = self.waiting.iter().position(may)?;
        Some(self.waiting.remove(job))
    }
}

/// Returns true if this process may raise its priority.
fn may_have_first_right() -> bool {
    thread::spawn(take_first_right).join().unwrap_or(false)
}

/// Raises the priority of this thread and of the processes that it starts. Returns true if that was allowed.
fn take_first_right() -> bool {
    rustix::process::setpriority_process(None, -19).is_ok()
}

/// Runs all checks, `lanes` at a time.
pub(super) fn run(needs: &[Needs], lanes: usize, check: impl Fn(usize) + Sync) {
    let first_right = lanes > 1 && may_have_first_right();
    let state = Mutex::new(State { waiting: jobs(needs), running: 0, alone: false });
    let changed = Condvar::new();
    let (state, changed, check) = (&state, &changed, &check);
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(move || {
                loop {
                    let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
                    let job = loop {
                        if now.waiting.is_empty() {
                            return;
                        }
                        if let Some(job) = now.next(first_right) {
                            break job;
                        }
                        now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                    };
                    now.running += 1;
                    now.alone |= job.alone;
                    drop(now);
                    // In a thread of its own: it keeps its priority as long as it lives.
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            if first_right && job.alone {
                                take_first_right();
                            }
                            job.checks.iter().for_each(|&number| check(number));
                        });
                    });
                    let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
                    now.running -= 1;
                    now.alone &= !job.alone;
                    drop(now);
                    changed.notify_all();
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn need(alone: bool, shared: &[&str]) -> Needs {
        Needs { seconds: 1, alone, shared: shared.iter().map(|&name| name.to_owned()).collect() }
    }

    fn job(checks: &[usize], alone: bool, last: bool) -> Job {
        Job { checks: checks.to_vec(), seconds: checks.len().try_into().unwrap(), alone, last }
    }

    #[test]
    fn what_shares_a_boot_is_one_job_and_what_shares_all_comes_last() {
        let needs = [
            need(false, &[]),
            need(false, &["a"]),
            need(false, &["a", "b"]),
            need(true, &[]),
            need(false, &["a"]),
        ];
        assert_eq!(
            jobs(&needs),
            [
                job(&[0], false, false),
                job(&[3], true, false),
                job(&[1, 4], false, false),
                job(&[2], false, true)
            ]
        );
    }

    #[test]
    fn what_takes_longest_runs_before_the_others_and_after_races() {
        let lasting = |seconds, alone| Needs { seconds, ..need(alone, &[]) };
        let needs = [lasting(1, false), lasting(2, false), lasting(90, false), lasting(1, true)];
        let order: Vec<usize> = jobs(&needs).iter().flat_map(|job| job.checks.clone()).collect();
        assert_eq!(order, [0, 3, 2, 1]);
    }

    #[test]
    fn races_never_run_beside_each_other() {
        let mut state = State {
            waiting: jobs(&[need(true, &[]), need(true, &[]), need(false, &[])]),
            running: 0,
            alone: false,
        };
        assert_eq!(state.next(true), Some(job(&[0], true, false)));
        (state.running, state.alone) = (1, true);
        assert_eq!(state.next(true), Some(job(&[2], false, false)));
        assert_eq!(state.next(true), None);
    }

    #[test]
    fn without_the_first_right_races_run_beside_nothing() {
        let mut state =
            State { waiting: jobs(&[need(false, &[]), need(true, &[])]), running: 1, alone: false };
        assert_eq!(state.next(false), Some(job(&[0], false, false)));
        assert_eq!(state.next(false), None);
        state.running = 0;
        assert_eq!(state.next(false), Some(job(&[1], true, false)));
    }

    #[test]
    fn each_runs_once_and_the_last_alone() {
        let needs = [need(false, &["a"]), need(true, &[]), need(false, &["a", "b"]), need(false, &["b"])];
        let (done, running) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        run(&needs, 2, |check| {
            let beside = running.fetch_add(1, Ordering::SeqCst);
            assert!(check != 2 || beside == 0);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            done.lock().unwrap().push(check);
        });
        let mut done = done.into_inner().unwrap();
        assert_eq!(done.last(), Some(&2));
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2, 3]);
    }
}
