//! Recordings made to do harm, through every verb that reads one: no panic, no endless run, nothing that steers a terminal,
//! and what programs read is what it claims to be.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use serde_json::Value;
use vfio_trace::output::export::CsvTable;

use crate::{
    made::{SeededRandom, real, recording},
    tool::{CliTestFolder, RunResult, run, testdata},
};

/// Returns true for what may not come out on a terminal: written down apart from the code that is tested.
fn harms(c: char) -> bool {
    matches!(
        u32::from(c),
        0..=0x9 | 0xb..=0x1f | 0x7f..=0x9f | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e
        | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f
    )
}

fn harmless(what: &str, text: &str) {
    let bad: Vec<char> = text.chars().filter(|c| harms(*c)).collect();
    assert!(bad.is_empty(), "{what} shows {bad:?}: {text:?}");
    let forged = text.lines().find(|line| line.trim_start().starts_with("FORGED"));
    assert!(forged.is_none(), "{what} has a line of somebody else: {text}");
}

/// One recording, or two merged.
struct HostileTrial {
    name: String,
    file: PathBuf,
}

impl HostileTrial {
    fn run(&self, codes: &[i32], words: &str, more: &[&OsStr]) -> RunResult {
        let mut arguments: Vec<OsString> = words
            .split(' ')
            .map(|word| if word == "FILE" { self.file.clone().into() } else { word.into() })
            .collect();
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        let ran = run(&arguments);
        let what = format!("{}: {words} {more:?}", self.name);
        assert!(codes.contains(&ran.code), "{what} exits with {}: {}", ran.code, ran.err);
        assert!(!ran.err.contains("panicked"), "{what}: {}", ran.err);
        // 5 is for what is missing of a recording, and these can all be read.
        assert!(ran.code != 5 || !ran.err.contains("error:"), "{what}: {}", ran.err);
        harmless(&format!("{what} on standard error"), &ran.err);
        if !words.contains("perfetto") && !words.contains("--html") {
            harmless(&what, ran.text());
        }
        ran
    }

    fn json(&self, codes: &[i32], words: &str) -> Value {
        let ran = self.run(codes, words, &[]);
        serde_json::from_slice(&ran.out).unwrap_or_else(|why| panic!("{}: {words}: {why}", self.name))
    }

    fn lines(&self, words: &str) -> usize {
        let ran = self.run(&[0, 5], words, &[]);
        for line in ran.text().lines() {
            let _parsed: Value =
                serde_json::from_str(line).unwrap_or_else(|why| panic!("{}: {why}: {line}", self.name));
        }
        ran.text().lines().count()
    }

    /// Texts, documents and tables of all verbs.
    fn everything(&self) {
        for words in [
            "replay FILE",
            "replay FILE --utc --time date --reveal --kind image,step,finding,arc,set_state,probe_gap",
            "replay FILE --time delta --quiet",
            "replay FILE --time monotonic --count 5",
            "list --from FILE",
            "list --from FILE --host 1",
        ] {
            self.run(&[0, 5], words, &[]);
        }
        for at in ["0s", "1s", "40s", "12:00:00"] {
            self.run(&[0, 2, 5], "list --from FILE --at", &[at.as_ref()]);
        }
        self.run(&[0, 1, 5], "report FILE --utc", &[]);
        self.lines("replay FILE --format ndjson");
        self.lines("export FILE --format ndjson");
        let list = self.json(&[0, 5], "list --from FILE --json");
        for device in list["devices"].as_array().unwrap().iter().take(3) {
            let name = device["device"].as_str().unwrap();
            for file in ["state", "features", "hisi_acc/attr", "no/such\u{1b}[2J"] {
                // Names that have one another's beginning, no migration, no such file, not known.
                self.run(&[0, 1, 2, 4, 5], "show --annotate --from FILE --", &[name.as_ref(), file.as_ref()]);
            }
        }
        self.json(&[0, 1, 5], "report FILE --json");
        self.json(&[0, 5], "export FILE --format json --pretty");
        self.json(&[0, 5], "export FILE --format chrome");
        let page = self.run(&[0, 1, 5], "report FILE --html", &[]);
        assert!(!page.text().chars().any(|c| harms(c) && c != '\t'), "{}: the page", self.name);
        assert!(!self.run(&[0, 5], "export FILE --format perfetto", &[]).out.is_empty());
        for (_, table, _) in CsvTable::ALL {
            let csv = self.run(&[0, 5], "export FILE --format csv --table", &[table.as_ref()]).out;
            let mut rows = csv::Reader::from_reader(&csv[..]);
            let columns = rows.headers().unwrap().len();
            for row in rows.records() {
                assert_eq!(row.unwrap().len(), columns, "{}: {table}", self.name);
            }
        }
    }
}

fn trials(folder: &CliTestFolder) -> Vec<HostileTrial> {
    let mut trials = Vec::new();
    let mut add = |name: String, make: &mut dyn FnMut(&mut SeededRandom) -> Vec<u8>, seed: u64| {
        let bytes = make(&mut SeededRandom::new(seed));
        let file = folder.file(&format!("{}.vft", name.replace(' ', "-")), &bytes);
        trials.push(HostileTrial { name, file });
    };
    for seed in 0..6 {
        let mut make = |dice: &mut SeededRandom| {
            let (header, mut items) = (dice.header(), dice.anything(400));
            items.push(dice.end());
            recording(&header, &items)
        };
        add(format!("anything {seed}"), &mut make, seed);
    }
    for (seed, name) in
        (0..).zip(["two-hosts-src.vft", "hisi-cache-wb.vft", "mtty-6.12-format-1.vft", "mismatch.vft"])
    {
        for times in [false, true] {
            let mut make = |dice: &mut SeededRandom| {
                let header = dice.header();
                let items = dice.disguised(real(name), times);
                recording(&header, &items)
            };
            add(format!("{name} disguised {times}"), &mut make, 2 * seed + u64::from(times));
        }
    }
    add("sessions".to_owned(), &mut |dice| recording(&dice.header(), &dice.sessions(600)), 7);
    add("devices".to_owned(), &mut |dice| recording(&dice.header(), &dice.devices(3000)), 8);
    add("nothing".to_owned(), &mut |dice| recording(&dice.header(), &[]), 9);
    add("counters".to_owned(), &mut |dice| recording(&dice.header(), &[dice.counters()]), 10);
    add("images".to_owned(), &mut |dice| recording(&dice.header(), &dice.images()), 11);
    for name in ["evil.vft", "mismatch.vft", "ok.vft", "hisi-cache-wb.vft"] {
        trials.push(HostileTrial { name: name.to_owned(), file: testdata(name) });
    }
    trials
}

#[test]
fn every_verb_survives_every_recording() {
    let folder = CliTestFolder::new();
    for trial in trials(&folder) {
        trial.everything();
    }
}

#[test]
fn merged_recordings_are_no_better() {
    let folder = CliTestFolder::new();
    let all = trials(&folder);
    let merge = |name: &str, one: &Path, other: &Path| {
        let file = folder.path(&format!("{name}.vft"));
        let trial = HostileTrial { name: format!("merge {name}"), file };
        trial.run(&[0, 5], "merge --utc -o FILE", &[one.as_os_str(), other.as_os_str()]);
        trial
    };
    for (number, pair) in all.windows(2).enumerate().step_by(3) {
        let trial = merge(&number.to_string(), &pair[0].file, &pair[1].file);
        trial.run(&[0, 5], "replay FILE", &[]);
        trial.lines("replay FILE --format ndjson");
        trial.run(&[0, 1, 5], "report FILE", &[]);
        trial.json(&[0, 5], "export FILE --format json");
        trial.run(&[0, 5], "replay FILE --host 2", &[]);
        trial.run(&[0, 5], "list --from FILE --host 2", &[]);
        trial.run(&[2], "list --from FILE --host 3", &[]);
        trial.run(&[2], "report FILE --host \u{1b}[2J", &[]);
    }
}
