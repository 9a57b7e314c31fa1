//! The command line of lab-migrate.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Migrates a real VM with an mtty device between two nested QEMUs.
///
/// Loads mtty, creates two mediated devices (source 11111111-1111-1111-1111-111111111111, destination
/// 22222222-2222-2222-2222-222222222222), runs the scenario and cleans up. Exits 0 if, and only if, every migration
/// ended as its scenario should: a scenario of failure needs the expected failure and a source that runs again.
#[derive(Clone, Debug, Parser)]
#[command(name = "lab-migrate", version)]
pub(crate) struct Args {
    /// What should happen to each migration
    #[arg(long, value_enum, default_value_t = Scenario::Ok)]
    pub(crate) scenario: Scenario,
    /// How many migrations
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Send the VM back and forth: each destination is the next source (scenarios `ok` and `pause` only)
    #[arg(long)]
    pub(crate) ping_pong: bool,
    /// With `--scenario pause`: cancel before the switchover instead of going on
    #[arg(long)]
    pub(crate) then_cancel: bool,
    /// Write what user space and mtty's own debug messages say happened into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) evidence: Option<PathBuf>,
    /// The mdev type of source and destination; `mismatch` gives the destination the other one
    #[arg(long = "type", value_enum, default_value_t = MttyType::Mtty2)]
    pub(crate) mtty_type: MttyType,
    /// Memory of each VM
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub(crate) memory: u32,
    /// How many bytes of the stream `cancel` and `kill-destination` let through before it stalls
    #[arg(long, value_name = "BYTES", default_value_t = 65536)]
    pub(crate) stall_after: u64,
    /// Hold this long before each migration, and in the paused or stalled phase
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) pause_ms: u64,
    /// How long any single wait may take
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// After a migration that did not end as it should, go on with the next one
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Leave the mediated devices there
    #[arg(long)]
    pub(crate) keep_devices: bool,
}

/// Outcome that a migration is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// It completes: source device STOP, destination device RUNNING
    Ok,
    /// The stream stalls in PRE_COPY, migrate_cancel: the source runs again
    Cancel,
    /// The stream stalls in PRE_COPY, the destination gets SIGKILL: the source runs again
    KillDestination,
    /// The destination's device is of another type and refuses the data: the source runs again
    Mismatch,
    /// It stops before the switchover, then goes on and completes; with --then-cancel the source runs again
    Pause,
}

/// The types that mtty offers: one and two serial ports, 60 and 96 bytes of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MttyType {
    #[value(name = "mtty-1")]
    Mtty1,
    #[value(name = "mtty-2")]
    Mtty2,
}

impl MttyType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mtty1 => "mtty-1",
            Self::Mtty2 => "mtty-2",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Mtty1 => Self::Mtty2,
            Self::Mtty2 => Self::Mtty1,
        }
    }
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancel => "cancel",
            Self::KillDestination => "kill-destination",
            Self::Mismatch => "mismatch",
            Self::Pause => "pause",
        }
    }
}

impl Args {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms)
    }

    /// Returns true if the VM ends up on the destination.
    pub(crate) fn completes(&self) -> bool {
        match self.scenario {
            Scenario::Ok => true,
            Scenario::Pause => !self.then_cancel,
            Scenario::Cancel | Scenario::KillDestination | Scenario::Mismatch => false,
        }
    }

    /// Returns the reason why options exclude each other, as a sentence.
    pub(crate) fn conflict(&self) -> Option<&'static str> {
        if self.ping_pong && !self.completes() {
            Some(
                "--ping-pong needs a scenario whose migrations complete: `ok`, or `pause` without --then-cancel",
            )
        } else if self.then_cancel && self.scenario != Scenario::Pause {
            Some("--then-cancel only makes sense with `--scenario pause`")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_and_names() {
        let args = parse("lab-migrate");
        assert_eq!((args.scenario, args.count, args.mtty_type), (Scenario::Ok, 1, MttyType::Mtty2));
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
        }
        assert_eq!(parse("lab-migrate --type mtty-1").mtty_type.name(), "mtty-1");
    }

    #[test]
    fn senseless_combinations_are_refused() {
        assert!(parse("lab-migrate --ping-pong --scenario cancel").conflict().is_some());
        assert!(parse("lab-migrate --ping-pong --scenario pause --then-cancel").conflict().is_some());
        assert!(parse("lab-migrate --then-cancel").conflict().is_some());
        assert!(parse("lab-migrate --ping-pong --scenario pause --count 20").conflict().is_none());
    }
}
