//! `--host`: a host of a merged recording is what its own recording is.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    made,
    tool::{CliTestFolder, RunResult, run, run_with, testdata},
};

fn words(words: &[&str], files: &[&Path]) -> Vec<OsString> {
    words.iter().map(OsString::from).chain(files.iter().map(Into::into)).collect()
}

/// Both hosts' recordings and what `merge` makes of them.
fn merged(folder: &CliTestFolder, one: PathBuf, other: PathBuf) -> [PathBuf; 3] {
    let both = folder.path("both.vft");
    let RunResult { code, err, .. } = run(&words(&["merge", "--quiet", "-o"], &[&both, &one, &other]));
    assert!(code == 0, "{code} {err}");
    [one, other, both]
}

fn named(folder: &CliTestFolder, name: Option<&str>, file: &str) -> PathBuf {
    let recording = format!("{file}/1/2");
    folder.file(file, &made::recording(&made::header(&recording, name), &made::real("two-hosts-dst.vft")))
}

#[test]
fn a_host_is_what_its_own_recording_is() {
    let folder = CliTestFolder::new();
    let [one, other, both] = merged(&folder, testdata("two-hosts-src.vft"), testdata("two-hosts-dst.vft"));
    for (host, own) in [("1", &one), ("2", &other)] {
        for arguments in
            [&["replay"][..], &["replay", "--format", "ndjson"], &["export", "--format", "ndjson"]]
        {
            let alone = run(&words(arguments, &[own]));
            let of_both = run(&words(&[arguments, &["--host", host]].concat(), &[&both]));
            assert_eq!(
                (of_both.code, of_both.text(), &of_both.err),
                (0, alone.text(), &alone.err),
                "{arguments:?}"
            );
            let pipe = File::open(&both).unwrap();
            let piped =
                run_with(&words(&[arguments, &["--host", host, "-"]].concat(), &[]), pipe.into(), None);
            assert_eq!((piped.code, piped.text()), (0, alone.text()), "through a pipe");
        }
        for arguments in
            [&["list", "--json", "--from"][..], &["list", "--from"], &["list", "--at", "1s", "--from"]]
        {
            let alone = run(&words(arguments, &[own]));
            let of_both = run(&words(arguments, &[&both, "--host".as_ref(), host.as_ref()]));
            assert_eq!(
                (of_both.code, of_both.text(), &of_both.err),
                (0, alone.text(), &alone.err),
                "{arguments:?}"
            );
        }
        let list: Value =
            serde_json::from_slice(&run(&words(&["list", "--json", "--at", "1s", "--from"], &[own])).out)
                .unwrap();
        let device = list["devices"][0]["device"].as_str().unwrap();
        let show = ["show", device, "features", "--at", "1s", "--from"];
        let [alone, of_both] =
            [words(&show, &[own]), words(&show, &[&both, "--host".as_ref(), host.as_ref()])]
                .map(|arguments| run(&arguments));
        assert!(!alone.out.is_empty());
        assert_eq!((of_both.code, of_both.text(), &of_both.err), (alone.code, alone.text(), &alone.err));
        let report = |arguments: &[OsString]| {
            let RunResult { code, out, .. } = run(arguments);
            let mut document: Value = serde_json::from_slice(&out).unwrap();
            document["hosts"][0]["source"] = Value::Null;
            (code, document)
        };
        assert_eq!(
            report(&words(&["report", "--json", "--host", host], &[&both])),
            report(&words(&["report", "--json"], &[own]))
        );
    }
}

#[test]
fn hosts_have_names() {
    let folder = CliTestFolder::new();
    let [one, other] =
        [("src", "one.vft"), ("dst", "other.vft")].map(|(name, file)| named(&folder, Some(name), file));
    let [one, other, both] = merged(&folder, one, other);
    for (host, own) in [("src", &one), ("dst", &other)] {
        let of_both = run(&words(&["replay", "--format", "ndjson", "--host", host], &[&both]));
        assert_eq!(
            (of_both.code, of_both.text()),
            (0, run(&words(&["replay", "--format", "ndjson"], &[own])).text())
        );
        // It has one host only.
        assert_eq!(run(&words(&["replay", "--host", host], &[own])).code, 0);
    }
    for arguments in [
        words(&["replay", "--host", "elsewhere"], &[&both]),
        words(&["report", "--host", "elsewhere"], &[&both]),
        words(&["export", "--format", "json", "--host", "elsewhere"], &[&both]),
        words(&["list", "--host", "elsewhere", "--from"], &[&both]),
        words(&["show", "x", "--host", "elsewhere", "--from"], &[&both]),
        words(&["report", "--host", "0"], &[&both]),
        words(&["report", "--host", "3"], &[&both]),
    ] {
        let RunResult { code, err, out } = run(&arguments);
        assert!(code == 2 && out.is_empty(), "{arguments:?}: {code} {err}");
        assert!(
            err.contains("the recording has no host") && err.contains("1 (src), 2 (dst)"),
            "{arguments:?}: {err}"
        );
    }
    let piped = run_with(
        &words(&["replay", "--host", "elsewhere", "-"], &[]),
        File::open(&both).unwrap().into(),
        None,
    );
    assert!(piped.code == 2 && piped.err.contains("1 (src), 2 (dst)"), "{}", piped.err);
    // Without --from it is about this host.
    assert_eq!(run(&words(&["list", "--host", "src"], &[])).code, 2);
}

/// A host that was not asked for is no damage: the first is shown, and how to see the other is said.
#[test]
fn the_first_host_is_whole_without_the_other() {
    let folder = CliTestFolder::new();
    let [one, other] =
        [("src", "one.vft"), ("dst", "other.vft")].map(|(name, file)| named(&folder, Some(name), file));
    let [one, other, both] = merged(&folder, one, other);
    let behind = "another recording of host dst follows, which is left out: --host chooses one";
    let first = "this is the first host of a merged recording: --host chooses another one";
    for (arguments, said) in [
        (&["list", "--from"][..], behind),
        (&["list", "--json", "--from"][..], behind),
        (&["list", "--at", "0s", "--from"][..], first),
    ] {
        let alone = run(&words(arguments, &[&one]));
        let of_both = run(&words(arguments, &[&both]));
        assert_eq!((of_both.code, of_both.text()), (0, alone.text()), "{arguments:?}: {}", of_both.err);
        assert_eq!(of_both.err.matches("--host").count(), 1, "{arguments:?}: {}", of_both.err);
        let (note, rest) = of_both.err.split_once('\n').unwrap();
        assert!(note.ends_with(said) && rest == alone.err, "{arguments:?}: {}", of_both.err);
    }
    let piped = run_with(&words(&["list", "--from", "-"], &[]), File::open(&both).unwrap().into(), None);
    assert!(piped.code == 0 && piped.err.contains(behind), "{} {}", piped.code, piped.err);
    let show = run(&words(&["show", "nothing", "--from"], &[&both]));
    assert!(show.code == 1 && show.err.contains("other hosts are left out"), "{} {}", show.code, show.err);
    let show = run(&words(&["show", "nothing", "--from"], &[&one]));
    assert!(show.code == 1 && !show.err.contains("host"), "{} {}", show.code, show.err);

    // What nobody has merged is no different; but `replay` shows all that it is given.
    let all = [&one, &other].map(|file| std::fs::read(file).unwrap());
    let cat = folder.file("cat.vft", &all.concat());
    let list = run(&words(&["list", "--from"], &[&cat]));
    assert!(list.code == 0 && list.err.contains(behind), "{} {}", list.code, list.err);
    let replay = run(&words(&["replay"], &[&cat]));
    assert!(replay.code == 5 && replay.err.contains(behind), "{} {}", replay.code, replay.err);
    assert_eq!(run(&words(&["replay"], &[&both])).code, 0);
    // What is damaged is so without the other host, too.
    let cut = folder.file("cut.vft", &all[0][..all[0].len() / 2]);
    assert_eq!(run(&words(&["list", "--from"], &[&cut])).code, 5);
}

#[test]
fn hosts_of_one_name_go_by_their_number() {
    let folder = CliTestFolder::new();
    let [one, other] = ["one.vft", "other.vft"].map(|file| named(&folder, Some("lab"), file));
    let [_, other, both] = merged(&folder, one, other);
    let RunResult { code, err, .. } = run(&words(&["replay", "--host", "lab"], &[&both]));
    assert!(
        code == 2 && err.contains("2 have this name") && err.contains("1 (lab#1), 2 (lab#2)"),
        "{code} {err}"
    );
    let want = run(&words(&["replay"], &[&other]));
    for host in ["2", "lab#2"] {
        let RunResult { code, out, .. } = run(&words(&["replay", "--host", host], &[&both]));
        assert_eq!((code, out), (0, want.out.clone()));
    }
    let [one, other] = [("a.vft"), ("b.vft")].map(|file| named(&folder, None, file));
    std::fs::remove_file(&both).unwrap();
    let [_, _, both] = merged(&folder, one, other);
    let RunResult { err, .. } = run_with(&words(&["replay", "--host", "x"], &[&both]), Stdio::null(), None);
    assert!(err.contains("1 (host#1), 2 (host#2)"), "{err}");
}

#[test]
fn a_clock_that_is_set_later_does_not_move_the_migration() {
    let folder = CliTestFolder::new();
    let migration = |one: &Path, other: &Path| {
        let ran = run(&words(&["report", "--json"], &[one, other]));
        let document: Value = serde_json::from_slice(&ran.out).unwrap();
        let migrations = document["migrations"].as_array().unwrap();
        assert_eq!(migrations.len(), 1, "{}", ran.err);
        (migrations[0]["downtime"]["total_ns"].clone(), document["merge"][0]["offset_ns"].clone())
    };
    let [src, dst] = ["two-hosts-src.vft", "two-hosts-dst.vft"].map(testdata);
    let plain = migration(&src, &dst);
    let hour = 3_600_000_000_000;
    let [later_src, later_dst] = ["two-hosts-src.vft", "two-hosts-dst.vft"]
        .map(|name| folder.file(name, &made::set_afterwards(name, hour)));
    assert_eq!(migration(&later_src, &dst), plain);
    assert_eq!(migration(&src, &later_dst), plain);
    assert_eq!(migration(&later_src, &later_dst), plain);
}
