//! `vfio-trace report`: what happened in one recording or several, for people, for programs, or as a page.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use super::{
    error::{CliError, FAILED, INPUT, USAGE},
    histories::{self, RecordingHistories},
    host::HostArgs,
    out_file::OutFile,
    output::{ColorMode, note},
    zone,
};
use crate::{
    output::{export::write_json, html, report_text},
    report::{
        self, ClockShift,
        document::{MigrationDocument, MigrationSide},
    },
};

/// Number of devices that are named where one had to be given.
const NAMED: usize = 8;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Recordings: of one host, of several hosts (put on one clock, see `merge`), or parts of one; - for standard
    /// input.
    #[arg(required_unless_present = "from", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as `show`, `list` and `mount` take them. Repeatable.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
    /// One JSON document with everything (schema vfio-trace.migration/1, docs/schema/migration-1.json).
    #[arg(long)]
    json: bool,
    /// One self-contained HTML page with the picture.
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// Where to; - is standard output. The file appears when all of it is written.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Say which devices belong together: the source's name and the destination's. Repeatable.
    #[arg(long = "pair", value_name = "SRC=DST", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Wall times in UTC instead of local time.
    #[arg(long)]
    utc: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorMode,
}

/// Reads `SRC=DST`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((source, destination)) if !source.is_empty() && !destination.is_empty() => {
            Ok((source.to_owned(), destination.to_owned()))
        },
        _ => Err("two names of devices with = between them, the source's first".to_owned()),
    }
}

/// Runs `vfio-trace report`.
pub(super) fn main(args: &ReportArgs) -> Result<u8, CliError> {
    let files = [&args.files[..], &args.from].concat();
    let mut out = OutFile::create(&args.output, args.force, &files)?;
    let histories = histories::read_of(&files, &args.host)?;
    check_pairs(&histories, &args.pairs)?;
    let document = document(&histories, &args.pairs);
    let failed = |why| CliError::bug("cannot write the report as JSON", why);
    let code = code(&document, histories.damaged);
    // A document can be large: what it was made from is not needed any more.
    drop(histories);
    let text = if args.json {
        let written = write_json(&document, false, &mut out);
        if let Some(why) = written.err().filter(|_| !out.has_failed()) {
            return Err(failed(serde_json::Error::io(why)));
        }
        String::new()
    } else if args.html {
        html(&document).map_err(failed)?
    } else {
        let zone = zone::display_zone(args.utc);
        let here = args.output.as_os_str() == "-";
        let color = if here { args.color.on(&io::stdout()) } else { args.color == ColorMode::Always };
        report_text(&document, &zone, color)
    };
    // What goes wrong here is told at the end.
    let _noted = out.write_all(text.as_bytes()).is_err();
    out.finish()?;
    Ok(code)
}

/// Refuses a pair of a device with itself, and one of which one name is that of no device; where some may be missing,
/// it is only said. `pairs`: what the
/// user says.
pub(super) fn check_pairs(
    histories: &RecordingHistories,
    pairs: &[(String, String)],
) -> Result<(), CliError> {
    let RecordingHistories { names, names_incomplete: lacking, .. } = histories;
    let cannot = |(source, destination): &(String, String), why: String, todo: String| {
        Err(CliError::with_code(USAGE, format!("cannot pair {source}={destination}"), why, todo))
    };
    for pair in pairs {
        let (source, destination) = pair;
        // Another host may have one of the same name.
        if source == destination && names.get(source) == Some(&1) && !*lacking {
            let why = "only one recording has a device of this name, and none migrates to itself";
            return cannot(pair, why.to_owned(), "give the destination's name after =".to_owned());
        }
        let Some(unknown) = [source, destination].into_iter().find(|name| !names.contains_key(*name)) else {
            continue;
        };
        if *lacking {
            note(&format!(
                "--pair {source}={destination}: no device {unknown} is known, but not all that happened is"
            ));
            continue;
        }
        let some: Vec<&str> = names.keys().map(String::as_str).take(NAMED).collect();
        let more = if names.len() > NAMED { ", …" } else { "" };
        let todo = match &some[..] {
            [] => "leave --pair out".to_owned(),
            _ => format!("give the whole name of a device: {}{more}", some.join(", ")),
        };
        let why = format!("no device that was recorded has the name {unknown}");
        return cannot(pair, why, todo);
    }
    Ok(())
}

/// Returns a sentence for each pair that the user gave and that no migration in the document is of.
pub(super) fn unapplied(document: &MigrationDocument, pairs: &[(String, String)]) -> Vec<String> {
    let is = |side: Option<&MigrationSide>, name: &str| {
        let device = side.and_then(|side| document.devices.get(side.device as usize));
        device.is_some_and(|device| device.name.as_deref() == Some(name))
    };
    let has = |source: &str, destination: &str| {
        let mut devices = document.migrations.iter().flat_map(|migration| &migration.devices);
        devices.any(|one| is(one.source.as_ref(), source) && is(one.destination.as_ref(), destination))
    };
    let unapplied = pairs.iter().filter(|(source, destination)| !has(source, destination));
    unapplied
        .map(|(source, destination)| {
            let reversed = if has(destination, source) {
                ", but one the other way: the source's name comes first"
            } else {
                ""
            };
            format!(
                "--pair {source}={destination} was not applied: no migration from {source} to {destination} was found{reversed}"
            )
        })
        .collect()
}

/// Makes the document of what was read; `pairs` that the user gives now take precedence over those given before.
/// Says which of these were not applied.
pub(super) fn document(histories: &RecordingHistories, pairs: &[(String, String)]) -> MigrationDocument {
    let document = document_and_shifts(histories, pairs).0;
    for text in unapplied(&document, pairs) {
        note(&text);
    }
    document
}

/// Makes the document, and the shift from each host's clock to the document's.
pub(super) fn document_and_shifts(
    histories: &RecordingHistories,
    pairs: &[(String, String)],
) -> (MigrationDocument, Vec<ClockShift>) {
    let mut pairs = pairs.to_vec();
    let unsaid = |pair: &&(String, String)| !pairs.iter().any(|said| said.0 == pair.0 || said.1 == pair.1);
    let before: Vec<(String, String)> = histories.pairs.iter().filter(unsaid).cloned().collect();
    pairs.extend(before);
    let options = report::DocumentOptions { version: env!("CARGO_PKG_VERSION").to_owned(), pairs };
    report::document_and_shifts(&histories.all, &options)
}

/// Returns the exit code: that of damaged input if something is missing, or that of a failure, of a migration or not.
fn code(document: &MigrationDocument, damaged: bool) -> u8 {
    if damaged {
        INPUT
    } else if document.failed() {
        FAILED
    } else {
        0
    }
}
