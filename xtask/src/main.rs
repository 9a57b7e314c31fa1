//! `cargo xtask VERB`: sets up, builds, shows and tests vfio-trace. One file per verb.

mod bench;
mod browser;
mod build;
mod cache;
mod cmd;
mod demo;
mod lab;
mod progress;
mod schema;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::progress::say;

/// Sets up, builds, shows and tests vfio-trace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this machine ready: BPF core library, bpf-linker, Debian packages, kernels and modules of the lab.
    Setup(setup::Args),
    /// Build the release binaries (sets up what the build needs).
    Build,
    /// One real QEMU migration in the lab, traced live.
    Demo(demo::Args),
    /// Format, lints, unit tests, and real migrations compared with independent witnesses.
    Test(test::Args),
    /// Write docs/schema: the schemas of all documents, made from the types.
    Schema(schema::Args),
    /// Sizes, times and memory with many events.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Boot a stock kernel in QEMU and run something in it.
    #[command(subcommand)]
    Lab(lab::Verb),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(args) => setup::main(&args),
        Verb::Build => build::main(),
        Verb::Demo(args) => demo::main(&args),
        Verb::Test(args) => test::main(&args),
        Verb::Schema(args) => schema::main(&args),
        Verb::Bench(verb) => bench::main(&verb),
        Verb::Lab(verb) => lab::main(verb),
    };
    done.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
