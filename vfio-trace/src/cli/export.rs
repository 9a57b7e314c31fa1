//! `vfio-trace export`: recordings in formats that other programs read (docs/exports.md).

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::{
    error::{CliError, INPUT, USAGE},
    events::{self, EventArgs},
    histories,
    host::HostArgs,
    out_file::OutFile,
    replay, report,
};
use crate::output::export::{CsvTable, write_chrome, write_csv, write_json, write_perfetto};

/// Format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// One document: devices, sessions, migrations, where the downtime went (docs/schema/migration-1.json).
    Json,
    /// One line per event, as `replay --format ndjson` (docs/schema/event-1.json).
    Ndjson,
    /// Trace Event Format, for chrome://tracing, ui.perfetto.dev and others.
    Chrome,
    /// Perfetto's native format, for ui.perfetto.dev and trace_processor.
    Perfetto,
    /// A table; see --table.
    Csv,
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Recordings: of one host, of several hosts (put on one clock, see `merge`), or parts of one; - for standard
    /// input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
    /// What to write.
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// Where to; - is standard output. The file appears when all of it is written.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// JSON on many lines.
    #[arg(long)]
    pretty: bool,
    /// Which table, for csv [default: migrations].
    #[arg(long, value_name = "TABLE", value_parser = tables())]
    table: Option<CsvTable>,
    /// Say which devices belong together: the source's name and the destination's. Repeatable.
    #[arg(long = "pair", value_name = "SRC=DST", value_parser = report::pair)]
    pairs: Vec<(String, String)>,
}

fn tables() -> impl TypedValueParser<Value = CsvTable> {
    let values = CsvTable::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help));
    let find = |chosen: String| CsvTable::ALL.into_iter().find(|(_, name, _)| *name == chosen);
    PossibleValuesParser::new(values)
        .map(move |name| find(name).map_or_else(CsvTable::default, |(table, ..)| table))
}

/// Runs `vfio-trace export`.
pub(super) fn main(args: &ExportArgs) -> Result<u8, CliError> {
    check(args)?;
    let mut out = OutFile::create(&args.output, args.force, &args.files)?;
    if args.format == ExportFormat::Perfetto {
        out.refuse_terminal("Perfetto's format")?;
    }
    let code = match args.format {
        ExportFormat::Ndjson => events(args, &mut out)?,
        ExportFormat::Json | ExportFormat::Chrome | ExportFormat::Perfetto | ExportFormat::Csv => {
            document(args, &mut out)?
        },
    };
    out.finish()?;
    Ok(code)
}

/// Options that the format has no use for are mistakes.
fn check(args: &ExportArgs) -> Result<(), CliError> {
    let wrong = [
        (args.pretty && args.format != ExportFormat::Json, "--pretty", "json"),
        (args.table.is_some() && args.format != ExportFormat::Csv, "--table", "csv"),
        (
            !args.pairs.is_empty() && args.format == ExportFormat::Ndjson,
            "--pair",
            "json, chrome, perfetto and csv",
        ),
    ];
    let Some((_, option, formats)) = wrong.into_iter().find(|(wrong, ..)| *wrong) else { return Ok(()) };
    let what = format!("cannot use {option} with this format");
    Err(CliError::with_code(USAGE, what, format!("it is for {formats}"), "leave it out"))
}

fn events(args: &ExportArgs, out: &mut OutFile) -> Result<u8, CliError> {
    let events = EventArgs { format: events::EventFormat::Ndjson, quiet: true, ..EventArgs::default() };
    replay::show(&args.files, &args.host, &events, out, false)
}

fn document(args: &ExportArgs, out: &mut OutFile) -> Result<u8, CliError> {
    let histories = histories::read_of(&args.files, &args.host)?;
    report::check_pairs(&histories, &args.pairs)?;
    let document = report::document(&histories, &args.pairs);
    let damaged = histories.damaged;
    // A document can be large: what it was made from is not needed any more.
    drop(histories);
    let written = match args.format {
        ExportFormat::Json => write_json(&document, args.pretty, &mut *out),
        ExportFormat::Chrome => write_chrome(&document, &mut *out),
        ExportFormat::Perfetto => write_perfetto(&document, &mut *out),
        ExportFormat::Csv => write_csv(&document, args.table.unwrap_or_default(), &mut *out),
        ExportFormat::Ndjson => Ok(()),
    };
    match written {
        Err(why) if !out.has_failed() => {
            return Err(CliError::bug("cannot write the document in this format", why));
        },
        // It tells when it is finished.
        Err(_) | Ok(()) => {},
    }
    Ok(if damaged { INPUT } else { 0 })
}
