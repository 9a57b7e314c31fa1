//! `vfio-trace merge SRC DST -o FILE`: both hosts' recordings in one file, on one clock.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
};

use super::{
    error::{CliError, INPUT, USAGE},
    histories,
    out_file::{OutFile, print},
    output::{ColorMode, print_finished},
    report::{check_pairs, document, pair},
    zone,
};
use crate::{output::report_text, recording::MergeNote};

/// Arguments of `merge`.
#[derive(Debug, clap::Args)]
pub(super) struct MergeArgs {
    /// The source's recording and the destination's; parts of each if they have several. The first one's clock is that
    /// of the result.
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file to make: `report`, `export` and `replay` read it as they do any recording. - is standard output; the
    /// report is on standard error then.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Say which devices belong together: the source's name and the destination's. Repeatable. Without it: by the bytes
    /// that were read and written.
    #[arg(long = "pair", value_name = "SRC=DST", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Wall times in UTC instead of local time.
    #[arg(long)]
    utc: bool,
    /// Colours.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorMode,
    /// Do not print the report.
    #[arg(long, short)]
    quiet: bool,
}

/// Runs `vfio-trace merge`.
pub(super) fn main(args: &MergeArgs) -> Result<u8, CliError> {
    let mut out = OutFile::create(&args.output, args.force, &args.files)?;
    out.refuse_terminal("a recording")?;
    if !args.quiet {
        // The report's place, before anything is made.
        drop(OutFile::stdout_beside(&args.files)?);
    }
    let recordings = histories::recordings(&args.files)?.recordings;
    let read = histories::read(&args.files)?;
    if read.all.len() < 2 {
        return Err(CliError::with_code(
            USAGE,
            "cannot merge",
            "all files are parts of one recording",
            "give the source's recording and the destination's",
        ));
    }
    check_pairs(&read, &args.pairs)?;
    let document = document(&read, &args.pairs);
    let clocks = serde_json::to_value(&document.merge).unwrap_or_default();
    let mut pairs = args.pairs.clone();
    pairs.extend(read.pairs.iter().cloned());
    let files: Vec<PathBuf> = recordings.into_iter().flatten().collect();
    match fill(&mut out, &MergeNote::new(pairs, clocks), &files) {
        Err(why) if !out.has_failed() => {
            let todo = "check that its recordings can be read";
            return Err(CliError::failed(format!("cannot write {}", args.output.display()), why, todo));
        },
        // It tells when it is finished.
        Err(_) | Ok(()) => {},
    }
    if out.finish()? && !args.quiet {
        let zone = zone::display_zone(args.utc);
        if args.output.as_os_str() == "-" {
            // Standard output has the recordings.
            print_finished(&report_text(&document, &zone, args.color.on(&io::stderr())));
        } else {
            let text = report_text(&document, &zone, args.color.on(&io::stdout()));
            print(&text, &args.files)?;
        }
    }
    Ok(if read.damaged { INPUT } else { 0 })
}

/// Writes the note, then the recordings as they are.
fn fill(out: &mut OutFile, note: &MergeNote, files: &[PathBuf]) -> io::Result<()> {
    out.write_all(&note.block()?)?;
    for file in files {
        io::copy(&mut File::open(file)?, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use jiff::tz::TimeZone;

    use super::*;
    use crate::cli::{error::FAILED, host::HostArgs, report::unapplied};
    use crate::{
        report::document::{MergeMethod, MigrationDocument},
        units::test_folder::TestFolder,
    };

    fn testdata(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/testdata").join(name)
    }

    /// Returns the document of these files, without their names.
    fn document_of(files: &[PathBuf]) -> MigrationDocument {
        let read = histories::read(files).unwrap();
        assert!(!read.damaged);
        let mut document = document(&read, &[]);
        for host in &mut document.hosts {
            host.source = "a file".to_owned();
        }
        document
    }

    fn args(files: Vec<PathBuf>, output: PathBuf, pair: [&str; 2]) -> MergeArgs {
        let [source, destination] = pair.map(str::to_owned);
        let pairs = vec![(source, destination)];
        MergeArgs { files, output, force: false, pairs, utc: true, color: ColorMode::Never, quiet: true }
    }

    /// Devices of both hosts, the wrong way round: no migration is theirs.
    const OTHERS: [&str; 2] =
        ["22222222-2222-2222-2222-222222222222", "11111111-1111-1111-1111-111111111111"];

    fn merged(folder: &TestFolder, files: Vec<PathBuf>) -> PathBuf {
        let path = folder.path("merged.vft");
        for pair in [["only-one", OTHERS[1]], [OTHERS[0], "of-these"]] {
            let refused = main(&args(files.clone(), path.clone(), pair)).unwrap_err();
            assert_eq!(refused.code, USAGE, "{pair:?}: no device has such a name");
            assert!(!path.exists());
        }
        let args = args(files, path.clone(), OTHERS);
        assert_eq!(main(&args).unwrap(), 0);
        assert_eq!(main(&args).unwrap_err().code, FAILED, "never over what is there");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        path
    }

    #[test]
    fn a_pair_is_refused_only_where_all_devices_are_known() {
        let pairs = |name: &str| [(OTHERS[0].to_owned(), name.to_owned())];
        let [source, destination] = ["two-hosts-src.vft", "two-hosts-dst.vft"].map(testdata);
        let one = HostArgs { host: Some("1".to_owned()) };
        let read = histories::read_of(&[source.clone(), destination.clone()], &one).unwrap();
        check_pairs(&read, &pairs(OTHERS[1])).expect("one is the other host's");
        assert_eq!(check_pairs(&read, &pairs("none")).unwrap_err().code, USAGE);
        let folder = TestFolder::new();
        let bytes = fs::read(destination).unwrap();
        let cut = folder.put("cut.vft", &bytes[..bytes.len() * 3 / 4]);
        check_pairs(&histories::read(&[source, cut]).unwrap(), &pairs("none"))
            .expect("it may have been in what is missing");
    }

    #[test]
    fn a_device_is_paired_with_itself_only_where_two_hosts_have_it() {
        let mut read = histories::read(&[testdata("two-hosts-src.vft")]).unwrap();
        let itself = [(OTHERS[1].to_owned(), OTHERS[1].to_owned())];
        assert_eq!(read.names.get(OTHERS[1]), Some(&1));
        let refused = check_pairs(&read, &itself).unwrap_err();
        assert!(refused.code == USAGE && refused.sentence().contains("to itself"), "{refused:?}");
        read.names.insert(OTHERS[1].to_owned(), 2);
        check_pairs(&read, &itself).unwrap();
        read.names.insert(OTHERS[1].to_owned(), 1);
        read.names_incomplete = true;
        check_pairs(&read, &itself).expect("another may have had no name");
    }

    #[test]
    fn a_pair_that_was_not_applied_is_told() {
        let both = ["two-hosts-src.vft", "two-hosts-dst.vft"].map(testdata);
        let read = histories::read(&both).unwrap();
        let pair = |source: &str, destination: &str| [(source.to_owned(), destination.to_owned())];
        let said = |pairs: &[(String, String)]| unapplied(&document(&read, pairs), pairs);
        assert_eq!(said(&pair(OTHERS[1], OTHERS[0])), [""; 0]);
        let reversed = said(&pair(OTHERS[0], OTHERS[1]));
        assert!(
            matches!(&reversed[..], [one] if one.contains("was not applied") && one.contains("the other way")),
            "{reversed:?}"
        );
        let other = said(&pair(OTHERS[1], OTHERS[1]));
        assert!(matches!(&other[..], [one] if !one.contains("the other way")), "{other:?}");
    }

    #[test]
    fn a_merged_file_is_its_recordings_together() {
        let both = vec![testdata("two-hosts-src.vft"), testdata("two-hosts-dst.vft")];
        let folder = TestFolder::new();
        let path = merged(&folder, both.clone());
        let read = histories::read(std::slice::from_ref(&path)).unwrap();
        assert_eq!(read.pairs, [(OTHERS[0].to_owned(), OTHERS[1].to_owned())]);
        let document = document_of(std::slice::from_ref(&path));
        assert_eq!(document, document_of(&both));

        let text = report_text(&document, &TimeZone::UTC, false);
        let golden = testdata("two-hosts.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(golden).unwrap());
    }

    #[test]
    fn the_order_of_the_hosts_changes_only_whose_clock_it_is() {
        let [src, dst] = ["two-hosts-src.vft", "two-hosts-dst.vft"].map(testdata);
        let one = document_of(&[src.clone(), dst.clone()]);
        let two = document_of(&[dst.clone(), src]);
        let downtime = |document: &MigrationDocument| {
            let downtime = document.migrations[0].downtime.clone().unwrap();
            (downtime.total_ns, downtime.bound, downtime.uncertainty_ns, downtime.stages)
        };
        assert_eq!(downtime(&one), downtime(&two));
        assert_eq!((one.migrations.len(), two.migrations.len()), (1, 1));
        let (one, two) = (&one.merge[0], &two.merge[0]);
        assert_eq!((one.method, two.method), (MergeMethod::Causality, MergeMethod::Causality));
        assert_eq!((one.offset_ns, one.early_ns, one.late_ns), (-two.offset_ns, two.late_ns, two.early_ns));
        assert!(one.offset_ns > 40_000_000_000, "{one:?}");
        // Parts of one recording, or the same twice, are nothing to merge.
        let folder = TestFolder::new();
        let twice = MergeArgs {
            files: vec![dst.clone(), dst],
            output: folder.path("never-made.vft"),
            force: false,
            pairs: Vec::new(),
            utc: true,
            color: ColorMode::Never,
            quiet: true,
        };
        main(&twice).unwrap_err();
        assert!(!twice.output.exists());
    }
}
