//! The command line: one file per verb, arguments in, exit code out.

mod child;
mod error;
mod output;
mod parse;
mod tail;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Traces VFIO device live migration on a stock kernel.
#[derive(Debug, Parser)]
#[command(name = "vfio-trace", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the traced thing failed, 2 usage, 3 not permitted, \
                          4 not supported here, 5 input damaged.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show migration events as they happen.
    Tail(tail::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap says it well; its own exit code for usage is 2 as well, and 0 for --help and --version.
            let code = if error.use_stderr() { error::USAGE } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        },
    };
    let done = match cli.verb {
        Verb::Tail(args) => tail::main(args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print();
            ExitCode::from(error.code)
        },
    }
}
