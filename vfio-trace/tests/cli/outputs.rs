//! Every verb that writes to standard output: a full disk is told, a reader that went away is not.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::Path,
    process::Stdio,
};

use crate::tool::{CliTestFolder, RunResult, run, run_after, run_with, testdata};

/// Each with what it is given; they have in common that something comes out on standard output.
fn all() -> Vec<Vec<String>> {
    let [mtty, hisi] =
        ["mtty-6.12-format-1.vft", "hisi-cache-wb.vft"].map(|name| testdata(name).display().to_string());
    let [src, dst] =
        ["two-hosts-src.vft", "two-hosts-dst.vft"].map(|name| testdata(name).display().to_string());
    let mut all: Vec<Vec<String>> = [
        "replay MTTY",
        "replay MTTY --format ndjson",
        "replay MTTY --count 3",
        "list --from MTTY --at 6.9s",
        "list --from MTTY --at 6.9s --json",
        "show --from MTTY --at 6.9s 11111111-1111-1111-1111-111111111111",
        "show --from MTTY --at 6.9s 11111111-1111-1111-1111-111111111111 features",
        "report MTTY",
        "report MTTY --json",
        "report MTTY --html",
        "report MTTY -o /dev/stdout",
        "report HISI",
        "export MTTY --format json",
        "export MTTY --format json --pretty",
        "export MTTY --format ndjson",
        "export MTTY --format chrome",
        "export MTTY --format perfetto",
        "export MTTY --format csv",
        "export MTTY --format ndjson -o /dev/stdout",
        "export MTTY --format csv -o /dev/stdout",
        "merge SRC DST -o -",
        "merge SRC DST -o /dev/stdout",
        "doctor",
        "doctor --json",
        "list --json",
        "--help",
        "--version",
        "replay --help",
    ]
    .iter()
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .collect();
    for word in all.iter_mut().flatten() {
        match word.as_str() {
            "MTTY" => word.clone_from(&mtty),
            "HISI" => word.clone_from(&hisi),
            "SRC" => word.clone_from(&src),
            "DST" => word.clone_from(&dst),
            _ => {},
        }
    }
    all
}

#[test]
fn a_full_disk_is_told() {
    for arguments in all() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let RunResult { code, err, .. } = run_with(&arguments, Stdio::null(), Some(full.into()));
        assert_eq!(code, 1, "{arguments:?}: {err}");
        let error = err.find("error: cannot write ").unwrap_or_else(|| panic!("{arguments:?} says: {err}"));
        let lines: Vec<&str> = err[error..].lines().collect();
        assert!(
            lines[0].contains("standard output") || lines[0].contains("/dev/stdout"),
            "{arguments:?}: {err}"
        );
        assert!(lines[1].starts_with("  why: No space left on device"), "{arguments:?}: {err}");
        assert!(lines[2].starts_with("  do:  make room"), "{arguments:?}: {err}");
        assert!(!err.contains("account") && !err.contains(" events, "), "{arguments:?}: {err}");
    }
}

/// Without a limit these have more than it allows; the unit of `ulimit -f` is that of the shell, 512 or 1024 bytes.
#[test]
fn a_limit_on_file_sizes_is_told() {
    let setup = "ulimit -c 0; ulimit -f 8";
    let mut limited = 0;
    for arguments in all().into_iter().filter(|arguments| run(arguments).out.len() > 16 << 10) {
        limited += 1;
        let RunResult { code, err, .. } = run_after(setup, &arguments, None);
        assert_eq!(code, 1, "{arguments:?}: {err}");
        assert!(err.contains("  why: File too large"), "{arguments:?}: {err}");
        assert!(err.contains("ulimit -f"), "{arguments:?}: {err}");
    }
    assert!(limited > 2, "{limited}");
    let folder = CliTestFolder::new();
    let out = folder.path("all.ndjson").into_os_string();
    let mtty = testdata("mtty-6.12-format-1.vft").into_os_string();
    let arguments = ["export".into(), mtty, "--format".into(), "ndjson".into(), "-o".into(), out.clone()];
    let RunResult { code, err, .. } = run_after(setup, &arguments, None);
    assert!(code == 1 && err.contains("ulimit -f"), "{code} {err}");
    assert!(fs::metadata(&out).is_err(), "half of it is in the way of the next try");
    assert_eq!(run(&arguments).code, 0);
}

#[test]
fn a_closed_standard_output_is_told() {
    // Files of that name are what Rust's runtime has put there.
    let named = |arguments: &Vec<String>| arguments.iter().any(|word| word == "/dev/stdout");
    for arguments in all().into_iter().filter(|arguments| !named(arguments)) {
        let RunResult { code, err, .. } = run_after("exec >&-", &arguments, None);
        assert_eq!(code, 1, "{arguments:?}: {err}");
        assert!(err.contains("error: cannot write standard output"), "{arguments:?}: {err}");
        assert!(err.contains("  do:  it is closed"), "{arguments:?}: {err}");
    }
    let folder = CliTestFolder::new();
    let out = folder.path("report.json").into_os_string();
    let mtty = testdata("mtty-6.12-format-1.vft").into_os_string();
    let arguments = ["report".into(), mtty, "--json".into(), "-o".into(), out.clone()];
    let RunResult { code, err, .. } = run_after("exec >&-", &arguments, None);
    assert_eq!(
        code,
        run(&["report", &testdata("mtty-6.12-format-1.vft").display().to_string()]).code,
        "{err}"
    );
    fs::metadata(&out).expect("it goes to a file");
}

#[test]
fn an_empty_name_is_no_device() {
    let mtty = testdata("mtty-6.12-format-1.vft").display().to_string();
    for name in ["", "1111,", ",1111", ","] {
        for verb in [&["replay", &mtty][..], &["tail"]] {
            let RunResult { code, out, err } = run(&[verb, &["--device", name]].concat());
            assert!(
                code == 2 && out.is_empty() && err.contains("--device"),
                "{verb:?} {name:?}: {code} {err}"
            );
        }
    }
}

#[test]
fn a_reader_that_went_away_is_a_normal_end() {
    for arguments in all() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let RunResult { code, err, .. } = run_with(&arguments, Stdio::null(), Some(writer.into()));
        // What the verb judges it judges all the same: doctor this host, and a report what failed.
        let judged = ["doctor", "report"].contains(&arguments[0].as_str())
            && !arguments.iter().any(|word| word == "-o");
        let whole = if judged { run(&arguments).code } else { 0 };
        assert_eq!(code, whole, "{arguments:?}: {err}");
        assert_eq!(err, "", "{arguments:?}");
    }
}

/// `>> a.vft`, with each of the files that a verb reads.
#[test]
fn what_is_read_is_not_added_to() {
    let folder = CliTestFolder::new();
    let outside = ["-o", "doctor", "--help", "--version"];
    let reads = |line: &Vec<String>| !line.iter().any(|word| outside.contains(&word.as_str()));
    let mut lines: Vec<Vec<String>> = all().into_iter().filter(reads).collect();
    let is_recording = |word: &str| Path::new(word).extension().is_some_and(|kind| kind == "vft");
    lines.retain(|line| line.iter().any(|word| is_recording(word)));
    let both = folder.path("both.vft");
    let [src, dst] =
        ["two-hosts-src.vft", "two-hosts-dst.vft"].map(|name| testdata(name).display().to_string());
    let merge = |out: &str| ["merge", &src, &dst, "-o", out].map(str::to_owned).to_vec();
    lines.extend([merge("-"), merge(&both.display().to_string())]);
    for line in lines {
        for read in line.iter().filter(|word| is_recording(word) && **word != both.display().to_string()) {
            let copy = folder.path("copy.vft");
            fs::copy(read, &copy).unwrap();
            let length = fs::metadata(&copy).unwrap().len();
            let named =
                |word: &String| if word == read { copy.clone().into_os_string() } else { word.into() };
            let words: Vec<OsString> = line.iter().map(named).collect();
            let appended = File::options().append(true).open(&copy).unwrap();
            let RunResult { code, err, .. } = run_with(&words, Stdio::null(), Some(appended.into()));
            assert_eq!(fs::metadata(&copy).unwrap().len(), length, "{line:?} added to {read}");
            assert!(code == 1 && err.contains("it is what is read"), "{line:?}: {code} {err}");
            assert!(!both.exists(), "{line:?} has made something");
        }
    }
}

#[test]
fn files_of_merge_and_its_report() {
    let folder = CliTestFolder::new();
    let [src, dst] = ["two-hosts-src.vft", "two-hosts-dst.vft"].map(|name| testdata(name).into_os_string());
    let both = folder.path("both.vft").into_os_string();
    let arguments = ["merge".into(), src, dst, "-o".into(), both.clone()];
    let full = File::options().write(true).open("/dev/full").unwrap();
    let RunResult { code, err, .. } = run_with(&arguments, Stdio::null(), Some(full.into()));
    assert!(code == 1 && err.contains("cannot write standard output"), "{code} {err}");
    fs::metadata(&both).expect("the file itself was written");
    let (code, err) = {
        let mut again = arguments.to_vec();
        again[4] = "/dev/full".into();
        let RunResult { code, err, .. } = run(&again);
        (code, err)
    };
    assert!(
        code == 1 && err.contains("error: cannot write /dev/full") && err.contains("make room"),
        "{code} {err}"
    );
}
