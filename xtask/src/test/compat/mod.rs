//! One binary on every kernel of the lab, with every device type of the lab: tests each feature on each of them.

mod held;
mod middle;
mod moves;
mod none;
mod reload;
mod settled;
mod tables;

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use anyhow::{Context as _, Result, ensure};

use super::{
    Check, Found,
    boot::{Boot, Part},
    doctor, full,
    guest::Left,
    losses, notes,
};

/// A device type on one kernel. [`cases`] makes them; each feature is checked with those to which it applies.
pub(super) struct Case {
    pub(super) mdev_type: &'static str,
    /// VFIO_MIGRATION flags of its devices on that kernel; 0 for a device without migration.
    pub(super) flags: u32,
    /// Its number among the kernel's cases, from which the numbers of its devices are made.
    pub(super) number: usize,
}

impl Case {
    /// Returns the states in which the tracer finds devices: STOP_COPY, RESUMING, and PRE_COPY if the device has it.
    fn middle_states(&self) -> &'static [&'static str] {
        let states = &["STOP_COPY", "RESUMING", "PRE_COPY"];
        if self.flags & 4 == 0 { &states[..2] } else { states }
    }

    /// Returns the migration flags as `list` and `show` name them.
    fn flag_names(&self) -> Vec<&'static str> {
        let names = [(1, "stop-copy"), (2, "p2p"), (4, "pre-copy")];
        names.into_iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| name).collect()
    }

    fn is_mtty(&self) -> bool {
        self.mdev_type.starts_with("mtty")
    }
}

const TYPES: [(&str, u32); 6] = [
    ("mtty-2", 7),
    ("quayside-full", 7),
    ("quayside-p2p", 3),
    ("quayside-precopy", 5),
    ("quayside-stopcopy", 1),
    ("quayside-none", 0),
];

pub(super) const SERIES: [&str; 3] = ["6.1", "6.12", "7.3"];

/// Returns all device types, with the flags that they have on this kernel: 6.1 has no PRE_COPY.
pub(super) fn cases(series: &str) -> Vec<Case> {
    let has = if series == "6.1" { 3 } else { 7 };
    let case = |(number, (mdev_type, flags)): (usize, &(&'static str, u32))| Case {
        mdev_type,
        flags: flags & has,
        number,
    };
    TYPES.iter().enumerate().map(case).collect()
}

/// Returns a sample of the cases that a long matrix could have on a kernel: each combination of flags once, by one
/// driver on some kernels and by the other on others. On 6.12 only the one with all flags, on 7.3 those with PRE_COPY.
/// With
/// `--full` returns all.
fn sampled(series: &str, could: fn(&Case, &str) -> bool) -> Vec<Case> {
    let mut all = cases(series);
    all.retain(|case| could(case, series));
    if !full() {
        // On 7.3 mtty behaves as on 6.12. On 6.12 quayside-full behaves as on 7.3. Without PRE_COPY all behave as on
        // 6.1.
        all.retain(|case| series != "7.3" || !case.is_mtty() && case.flags & 4 != 0);
        let mut seen = BTreeSet::new();
        all.retain(|case| seen.insert(case.flags));
        // 6.12 takes the code paths of 7.3.
        if series == "6.12" {
            all.truncate(1);
        }
    }
    all
}

fn is_sampled(case: &Case, series: &str, could: fn(&Case, &str) -> bool) -> bool {
    sampled(series, could).iter().any(|one| one.number == case.number)
}

/// Returns true if every request from every state is tried with it.
fn is_thorough(case: &Case, series: &str) -> bool {
    is_sampled(case, series, has_migration)
}

fn migrating(series: &str) -> Vec<Case> {
    cases(series).into_iter().filter(|case| case.flags != 0).collect()
}

/// Returns a device's name by its number, as the script's `device` makes it.
pub(super) fn device(number: usize) -> String {
    format!("{number:08}-0000-4000-8000-000000000000")
}

/// Result of a feature's check: text for the matrix, and the number of comparisons.
struct Seen {
    text: String,
    tests: u64,
}

impl Seen {
    fn new(text: impl Into<String>, tests: usize) -> Self {
        Self { text: text.into(), tests: tests as u64 }
    }
}

/// A column of the matrix.
struct Feature {
    name: &'static str,
    /// Part of the script that shows the feature.
    part: &'static str,
    /// True if the part runs in the boot with VFIO's debugfs, on kernels that have it.
    debugfs: bool,
    applies: fn(&Case, &str) -> bool,
    check: fn(&Left, &Case, &str) -> Result<Seen>,
}

const FEATURES: [Feature; 7] = [
    Feature {
        name: "a migration",
        part: "moves",
        debugfs: false,
        applies: has_migration,
        check: moves::check,
    },
    Feature { name: "path cells", part: "moves", debugfs: false, applies: is_thorough, check: tables::check },
    Feature {
        name: "attach in the middle",
        part: "middle",
        debugfs: false,
        applies: has_migration,
        check: middle::check,
    },
    Feature {
        name: "driver reloaded",
        part: "reload",
        debugfs: false,
        applies: reload::applies,
        check: reload::check,
    },
    Feature {
        name: "state after requests",
        part: "settled",
        debugfs: true,
        applies: settled::applies,
        check: settled::check,
    },
    Feature {
        name: "state within arcs",
        part: "held",
        debugfs: true,
        applies: held::applies,
        check: held::check,
    },
    Feature {
        name: "no migration",
        part: "none",
        debugfs: false,
        applies: |case, _| case.flags == 0,
        check: none::check,
    },
];

fn has_migration(case: &Case, _series: &str) -> bool {
    case.flags != 0
}

/// The boots of a kernel: as Debian has it, and with VFIO's debugfs as a witness. 6.1 has no such debugfs.
struct Boots {
    stock: Arc<Boot>,
    debugfs: Arc<Boot>,
}

impl Boots {
    fn new(series: &'static str) -> Self {
        let mut stock = vec![
            Part { name: "moves", script: moves::script },
            Part { name: "middle", script: middle::script },
            Part { name: "reload", script: |_| Ok(reload::script()) },
            Part { name: "none", script: |_| Ok(none::SCRIPT.to_owned()) },
            Part { name: doctor::PART, script: doctor::script },
        ];
        stock.extend(losses::parts());
        let witnessed = vec![
            Part { name: "settled", script: settled::script },
            Part { name: "held", script: held::script },
        ];
        if has_debugfs(series) {
            return Self {
                stock: Boot::new(series, false, stock),
                debugfs: Boot::new(series, true, witnessed),
            };
        }
        stock.extend(witnessed);
        let stock = Boot::new(series, false, stock);
        Self { debugfs: Arc::clone(&stock), stock }
    }

    fn of(&self, feature: &Feature) -> &Arc<Boot> {
        if feature.debugfs { &self.debugfs } else { &self.stock }
    }
}

fn has_debugfs(series: &str) -> bool {
    series != "6.1"
}

/// Returns one check per kernel and feature, and one that prints them all as a table.
pub(super) fn checks() -> Vec<Check> {
    let boots: Arc<Vec<Boots>> = Arc::new(SERIES.map(Boots::new).into());
    let mut checks = Vec::new();
    for (series, boot) in SERIES.into_iter().zip(boots.iter()) {
        for feature in &FEATURES {
            let boot = Arc::clone(boot.of(feature));
            let wanted = Arc::clone(&boot);
            let name = format!("compat {series}: {}", feature.name);
            let check = Check::new(name, move |_| one(&boot, series, feature));
            let check = if feature.debugfs { check.lasting(45) } else { check };
            checks.push(check.wanting(move || wanted.want(feature.part)));
        }
        checks.push(doctor::check(Arc::clone(&boot.stock)));
        checks.extend(losses::checks(&boot.stock));
    }
    let wanted = Arc::clone(&boots);
    let matrix = Check::new("compat: the matrix", move |_| matrix(&boots)).wanting(move || {
        for boot in wanted.iter() {
            for feature in &FEATURES {
                boot.of(feature).want(feature.part);
            }
        }
    });
    checks.push(matrix);
    checks
}

/// Checks a feature on a kernel, with all device types.
fn one(boot: &Boot, series: &str, feature: &Feature) -> Result<Found> {
    let left = boot.part(feature.part)?;
    let (mut detail, mut tests) = (Vec::new(), 0);
    for case in cases(series).iter().filter(|case| (feature.applies)(case, series)) {
        let seen = (feature.check)(&left, case, series).with_context(|| case.mdev_type)?;
        tests += seen.tests;
        detail.push(format!("{} {}", case.mdev_type, seen.text));
    }
    ensure!(tests > 0, "nothing was compared");
    Ok(Found { detail: detail.join("; "), tests })
}

/// Prints all results again as a table. A failure has its reason in its own check.
fn matrix(boots: &[Boots]) -> Result<Found> {
    let mut table = "| kernel | device type | flags |".to_owned();
    for feature in &FEATURES {
        write!(table, " {} |", feature.name)?;
    }
    write!(table, "\n|{}\n", "---|".repeat(FEATURES.len() + 3))?;
    let (mut rows, mut failed) = (0, Vec::new());
    for (series, boots) in SERIES.into_iter().zip(boots) {
        for case in cases(series) {
            write!(table, "| {series} | {} | {} |", case.mdev_type, case.flags)?;
            for feature in &FEATURES {
                let cell = if (feature.applies)(&case, series) {
                    let left = boots.of(feature).part(feature.part);
                    let seen = left.and_then(|left| (feature.check)(&left, &case, series));
                    seen.map_or_else(
                        |_told_above| {
                            failed.push(format!("{series} {} {}", case.mdev_type, feature.name));
                            "FAILED".to_owned()
                        },
                        |seen| seen.text,
                    )
                } else {
                    "-".to_owned()
                };
                write!(table, " {cell} |")?;
            }
            table.push('\n');
            rows += 1;
        }
    }
    for line in table.lines() {
        notes::line(line);
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(Found::one(format!("{rows} pairs of kernel and device type, {} features", FEATURES.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_every_combination_of_flags_and_both_drivers_and_all_flags_on_every_kernel() {
        let (mut drivers, mut met) = (BTreeSet::new(), BTreeSet::new());
        for series in SERIES {
            let flags = |cases: Vec<Case>| cases.iter().map(|case| case.flags).collect::<BTreeSet<_>>();
            let chosen = sampled(series, has_migration);
            drivers.extend(chosen.iter().map(Case::is_mtty));
            let (chosen, all) = (flags(chosen), flags(migrating(series)));
            assert_eq!(chosen.last(), all.last(), "{series}");
            met.extend(chosen);
        }
        assert_eq!(met, BTreeSet::from([1, 3, 5, 7]));
        assert_eq!(drivers.len(), 2);
    }
}
