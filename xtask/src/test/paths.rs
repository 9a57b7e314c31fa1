//! The path tables: the arcs of each request, for each combination of migration flags. Golden data.

use anyhow::{Context as _, Result, bail, ensure};

const FILES: [(u32, &str); 4] = [
    (1, include_str!("paths/flags-1.txt")),
    (3, include_str!("paths/flags-3.txt")),
    (5, include_str!("paths/flags-5.txt")),
    (7, include_str!("paths/flags-7.txt")),
];

/// All states that can be asked for.
pub(super) const STATES: [&str; 8] =
    ["ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"];

/// Expected result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The states to which the arcs lead, one after the other; empty if the device is in the target state already.
    Arcs(Vec<&'static str>),
    /// The core refuses the request with EINVAL.
    Refused,
}

/// The table for one combination of migration flags. Read from `paths/flags-N.txt`; several checks compare requests
/// with it.
#[derive(Debug)]
pub(super) struct Table {
    /// The states that a device with these flags has.
    pub(super) states: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns the table for these flags.
    pub(super) fn of(flags: u32) -> Result<Self> {
        let known = FILES.iter().find(|(known, _)| *known == flags);
        let (_, text) = known.with_context(|| format!("there is no path table for flags {flags}"))?;
        Self::parse(text).with_context(|| format!("path table for flags {flags}"))
    }

    fn parse(text: &'static str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !(line.is_empty() || line.starts_with('#')));
        let words = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
        let head = words(lines.next().context("it is empty")?);
        let (corner, states) = head.split_first().context("it has no head")?;
        ensure!(*corner == r"from \ to", "its head begins with {corner}");
        let mut rows = Vec::new();
        for (from, line) in states.iter().zip(lines.by_ref()) {
            let row = words(line);
            let (first, cells) = row.split_first().context("an empty row")?;
            ensure!(first == from, "row {first} is where {from} should be");
            ensure!(cells.len() == states.len(), "row {from} has {} cells", cells.len());
            rows.push(cells.iter().map(|cell| parse_cell(cell)).collect::<Result<_>>()?);
        }
        ensure!(rows.len() == states.len() && lines.next().is_none(), "it is not square");
        Ok(Self { states: states.to_vec(), rows })
    }

    /// Returns the expected result of a request for `to` in `from`; none if a device with these flags is never in
    /// `from`.
    pub(super) fn cell(&self, from: &str, to: &str) -> Option<Cell> {
        let position = |state: &str| self.states.iter().position(|known| *known == state);
        let row = self.rows.get(position(from)?)?;
        Some(position(to).and_then(|to| row.get(to)).cloned().unwrap_or(Cell::Refused))
    }

    /// Returns all its cells, as from, to and expected result.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&'static str, &'static str, &Cell)> {
        self.states
            .iter()
            .zip(&self.rows)
            .flat_map(|(from, row)| self.states.iter().zip(row).map(move |(to, cell)| (*from, *to, cell)))
    }
}

fn parse_cell(text: &'static str) -> Result<Cell> {
    match text {
        "EINVAL" => Ok(Cell::Refused),
        "·" => Ok(Cell::Arcs(Vec::new())),
        path => {
            let states: Vec<&str> = path.split('→').collect();
            match states.iter().find(|state| !STATES.contains(state)) {
                Some(other) => bail!("\"{other}\" is no state"),
                None => Ok(Cell::Arcs(states)),
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns true if drivers implement an arc, by the flags that it needs (Documentation of `enum
    /// vfio_device_mig_state`).
    fn implemented(from: &str, to: &str, flags: u32) -> bool {
        let (p2p, pre_copy) = (flags & 2 != 0, flags & 4 != 0);
        match (from, to) {
            ("RESUMING" | "STOP_COPY", "STOP") | ("STOP", "RESUMING" | "STOP_COPY") => true,
            ("RUNNING", "STOP") | ("STOP", "RUNNING") => !p2p,
            ("RUNNING" | "STOP", "RUNNING_P2P") | ("RUNNING_P2P", "RUNNING" | "STOP") => p2p,
            ("RUNNING", "PRE_COPY") | ("PRE_COPY", "RUNNING") => pre_copy,
            // With P2P the core goes through PRE_COPY_P2P.
            ("PRE_COPY", "STOP_COPY") => pre_copy && !p2p,
            ("PRE_COPY" | "RUNNING_P2P", "PRE_COPY_P2P")
            | ("PRE_COPY_P2P", "PRE_COPY" | "RUNNING_P2P" | "STOP_COPY") => p2p && pre_copy,
            _ => false,
        }
    }

    #[test]
    fn every_cell_is_made_of_arcs_that_drivers_implement() {
        for (flags, states, refused) in [(1, 4, 0), (3, 5, 0), (5, 5, 1), (7, 7, 2)] {
            let table = Table::of(flags).unwrap();
            assert_eq!(table.states.len(), states);
            for (from, to, cell) in table.cells() {
                let Cell::Arcs(path) = cell else { continue };
                assert_eq!(*path.last().unwrap_or(&from), to, "flags {flags}, {from} to {to}");
                assert_eq!(path.is_empty(), from == to, "flags {flags}, {from} to {to}");
                for (before, after) in std::iter::once(&from).chain(path).zip(path) {
                    assert!(
                        implemented(before, after, flags),
                        "flags {flags}, {from} to {to}: {before} to {after}"
                    );
                }
            }
            assert_eq!(table.cells().filter(|(_, _, cell)| **cell == Cell::Refused).count(), refused);
        }
    }

    #[test]
    fn what_a_device_does_not_have_is_refused_or_never_reached() {
        let table = Table::of(1).unwrap();
        assert_eq!(table.cell("STOP", "PRE_COPY"), Some(Cell::Refused));
        assert_eq!(table.cell("STOP", "ERROR"), Some(Cell::Refused));
        assert_eq!(table.cell("RUNNING_P2P", "STOP"), None);
        assert_eq!(table.cell("RUNNING", "STOP_COPY"), Some(Cell::Arcs(vec!["STOP", "STOP_COPY"])));
        Table::of(2).unwrap_err();
    }

    #[test]
    fn a_broken_table_is_refused() {
        for text in [
            "",
            "x | STOP\nSTOP | ·",
            "from \\ to | STOP\nRUNNING | ·",
            "from \\ to | STOP\nSTOP | · | ·",
            "from \\ to | STOP\nSTOP | HALT",
            "from \\ to | STOP\nSTOP | ·\nRUNNING | ·",
        ] {
            assert!(Table::parse(text).is_err(), "{text}");
        }
    }
}
