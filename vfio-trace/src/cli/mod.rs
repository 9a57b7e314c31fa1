//! The command line: one file per verb, arguments in, exit code out.

mod child;
mod devices;
mod doctor;
mod error;
mod events;
mod exercise;
mod export;
mod histories;
mod host;
mod kernel_args;
mod list;
mod merge;
mod mount;
mod out_file;
mod output;
mod parse;
mod past;
mod privileges;
mod record;
mod recording;
mod replay;
mod report;
mod schemas;
mod session;
mod show;
mod signals;
mod storing;
mod tail;
mod zone;

pub use self::schemas::schema_files;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::recording::stdout;

/// Traces VFIO device live migration on a stock kernel.
#[derive(Debug, Parser)]
#[command(name = "vfio-trace", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
struct CliArgs {
    #[command(subcommand)]
    verb: CliVerb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the traced thing failed, 2 usage, 3 not permitted, \
                          4 not supported here, 5 input damaged.";

#[derive(Debug, Subcommand)]
enum CliVerb {
    /// Tell what can be traced on this host, what not, why, and what to do about it.
    Doctor(doctor::DoctorArgs),
    /// Write recordings in formats that other programs read: JSON, Perfetto, Trace Event Format, CSV.
    Export(export::ExportArgs),
    /// Drive an idle device through its migration states, step by step. Acts on the device: see docs/exercise.md.
    Exercise(exercise::ExerciseArgs),
    /// Show every VFIO device: driver, migration, state, who holds it.
    List(list::ListArgs),
    /// Put recordings of both hosts of a migration into one file, on one clock.
    Merge(merge::MergeArgs),
    /// Show all views as files: a FUSE tree with the layout of the kernel's debugfs.
    Mount(mount::MountArgs),
    /// Unmounts when the `mount` that has started it ends.
    #[command(name = mount::GUARD_VERB, hide = true)]
    MountGuard(mount::GuardArgs),
    /// Keep everything that is traced in a file.
    Record(record::RecordArgs),
    /// Show the events of a recording as `tail` would have shown them, on any machine.
    Replay(replay::ReplayArgs),
    /// Tell what happened in recordings: migrations, where the downtime went, what failed and why.
    Report(report::ReportArgs),
    /// Show one view of a device, as the kernel's debugfs would print it.
    Show(show::ShowArgs),
    /// Show migration events as they happen.
    Tail(tail::TailArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    signals::outlive_file_limit();
    let cli = match CliArgs::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap says it well; its own exit code for usage is 2 as well, and 0 for --help and --version.
            let code = if error.use_stderr() { error::USAGE } else { 0 };
            let told = if code == 0 { stdout().and_then(|_open| error.print()) } else { error.print() };
            return match told.err().filter(|why| code == 0 && why.kind() != io::ErrorKind::BrokenPipe) {
                Some(why) => {
                    let lost = out_file::lost("standard output", &why);
                    lost.print();
                    ExitCode::from(lost.code)
                },
                None => ExitCode::from(code),
            };
        },
    };
    let done = match cli.verb {
        CliVerb::Doctor(args) => doctor::main(&args),
        CliVerb::Export(args) => export::main(&args),
        CliVerb::Exercise(args) => exercise::main(&args),
        CliVerb::List(args) => list::main(&args),
        CliVerb::Merge(args) => merge::main(&args),
        CliVerb::Mount(args) => mount::main(args),
        CliVerb::MountGuard(args) => mount::guard_main(&args),
        CliVerb::Show(args) => show::main(&args),
        CliVerb::Record(args) => record::main(&args),
        CliVerb::Replay(args) => replay::main(&args),
        CliVerb::Report(args) => report::main(&args),
        CliVerb::Tail(args) => tail::main(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print();
            ExitCode::from(error.code)
        },
    }
}
