//! The table of findings, findings.txt: reads it, checks it, compares findings with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// Severity, code, step and errno of a finding.
pub(super) type Line = [String; 4];

const TABLE: &str = include_str!("findings.txt");

/// Names of the variants. `6.12` in the table stands for both builds, `all` for everything.
const VARIANTS: [&str; 4] = ["6.12", "7.3", "6.12-noinline", "7.3-noinline"];

/// Expected findings, by scenario and variant. Read from findings.txt.
#[derive(Debug)]
pub(super) struct Golden(BTreeMap<String, BTreeMap<&'static str, Vec<Line>>>);

impl Golden {
    pub(super) fn read() -> Result<Self> {
        Self::parse(TABLE)
    }

    fn parse(table: &str) -> Result<Self> {
        let mut scenarios: BTreeMap<String, BTreeMap<&'static str, Vec<Line>>> = BTreeMap::new();
        let mut current = String::new();
        for (number, line) in (1..).zip(table.lines()) {
            let rest = line.trim_start();
            if rest.is_empty() || rest.starts_with('#') {
                continue;
            }
            if rest.len() == line.len() {
                line.trim_end().clone_into(&mut current);
                let all = VARIANTS.map(|variant| (variant, Vec::new())).into();
                ensure!(scenarios.insert(current.clone(), all).is_none(), "line {number}: {current} again");
                continue;
            }
            let words: Vec<String> = rest.split('|').map(|word| word.trim().to_owned()).collect();
            let Ok([kernels, severity, code, step, errno]) = <[String; 5]>::try_from(words) else {
                bail!("line {number} is not kernels | severity | code | step | errno: {line}");
            };
            let chosen: Vec<&str> = VARIANTS
                .into_iter()
                .filter(|variant| {
                    kernels == "all" || variant.strip_suffix("-noinline").unwrap_or(variant) == kernels
                })
                .collect();
            ensure!(!chosen.is_empty(), "line {number}: there is no kernel {kernels}");
            let scenario =
                scenarios.get_mut(&current).with_context(|| format!("line {number} has no scenario"))?;
            for variant in chosen {
                let line = [&severity, &code, &step, &errno].map(Clone::clone);
                scenario.entry(variant).or_default().push(line);
            }
        }
        Ok(Self(scenarios))
    }

    /// Checks that the table has every scenario, and nothing else.
    pub(super) fn has_all(&self, names: &[String]) -> Result<()> {
        let names: BTreeSet<&String> = names.iter().collect();
        let known: BTreeSet<&String> = self.0.keys().collect();
        let differ: Vec<_> = names.symmetric_difference(&known).collect();
        ensure!(
            differ.is_empty(),
            "lab-hisi and the table of findings do not have the same scenarios: {differ:?}"
        );
        Ok(())
    }

    /// Compares the findings of a scenario with the table. The error has the lines with which the table would be right.
    pub(super) fn compare(&self, variant: &str, scenario: &str, seen: &[Line]) -> Result<()> {
        let wanted = self.0.get(scenario).and_then(|variants| variants.get(variant));
        let wanted = wanted.with_context(|| format!("{scenario} on {variant} is not in the table"))?;
        let rows = |lines: &[Line]| {
            let rows: Vec<String> = lines.iter().map(|line| format!("    {}", line.join(" | "))).collect();
            if rows.is_empty() { "    nothing".to_owned() } else { rows.join("\n") }
        };
        ensure!(
            wanted.as_slice() == seen,
            "{scenario}\n  has to be\n{}\n  was\n{}",
            rows(wanted),
            rows(seen)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: &str) -> Line {
        ["error", code, "s", "EIO"].map(str::to_owned)
    }

    #[test]
    fn kernels_share_lines() {
        let golden = Golden::parse(
            "# why\nfirst\n  all | error | a | s | EIO\n  7.3 | error | b | s | EIO\n\nsecond\n",
        )
        .unwrap();
        golden.has_all(&["second".to_owned(), "first".to_owned()]).unwrap();
        golden.has_all(&["first".to_owned()]).unwrap_err();
        golden.compare("6.12-noinline", "first", &[line("a")]).unwrap();
        golden.compare("7.3", "first", &[line("a"), line("b")]).unwrap();
        golden.compare("7.3", "first", &[line("b"), line("a")]).unwrap_err();
        golden.compare("6.12", "second", &[]).unwrap();
        golden.compare("6.12", "third", &[]).unwrap_err();
    }

    #[test]
    fn nonsense_is_refused() {
        for table in
            ["  all | error | a | s | EIO", "s\n  all | error", "s\n  6.13 | error | a | s | EIO", "s\ns\n"]
        {
            Golden::parse(table).unwrap_err();
        }
    }

    #[test]
    fn the_table_is_sound() {
        let golden = Golden::read().unwrap();
        for (scenario, variants) in &golden.0 {
            for line in variants.values().flatten() {
                assert!(["error", "warning", "info"].contains(&line[0].as_str()), "{scenario}: {line:?}");
                assert!(line[1].starts_with("hisi_acc/"), "{scenario}: {line:?}");
                assert_eq!(line[0] == "error", line[3] != "-", "{scenario}: {line:?}");
            }
        }
    }
}
