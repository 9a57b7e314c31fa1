//! Tests of files: a replaced file stays until a new one is in its place.

use std::sync::Mutex;

use super::*;
use crate::recording::new_file::{FsLimits, id_at};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn forced(path: &Path, rotate: bool) -> RecordingOutput {
    let mut output = RecordingOutput::create(path, rotate, None, true).unwrap();
    assert!(output.open().unwrap());
    output
}

#[test]
fn what_was_to_be_replaced_comes_back_if_nothing_came_of_it() {
    let folder = TestFolder::new();
    let path = folder.path("a.vft");
    fs::write(&path, "old").unwrap();
    let mut output = forced(&path, false);
    assert_eq!(folder.names(), ["a.vft"], "who is killed leaves nothing behind");
    assert!(output.is_file());
    output.first().unwrap().write_all(b"new").unwrap();
    assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 2));
    drop(output);
    assert_eq!((read(&path).as_str(), folder.names().len()), ("old", 1));
    // The recording has begun: the old file is gone.
    let mut output = forced(&path, false);
    output.first().unwrap().write_all(b"new").unwrap();
    assert!(output.keep_first_part().is_empty());
    drop(output);
    assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 1));
    // A file that another process has put there in the meantime must not be removed.
    let mut output = forced(&path, false);
    drop(output.first().unwrap());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    drop(output.on_unrestored(tell));
    assert_eq!(read(&path), "theirs");
    assert_eq!(read(&told(&path)), "new", "and where that is which was there before, is told");
    // Another process has removed the new file, and there is no other.
    let mut output = forced(&path, false);
    drop(output.first().unwrap());
    fs::remove_file(&path).unwrap();
    drop(output);
    assert_eq!(read(&path), "theirs");
}

/// Present paths of files that could not be put back, by their former paths.
static TOLD: Mutex<Vec<(PathBuf, PathBuf)>> = Mutex::new(Vec::new());

fn tell(path: &Path, now: &Path) {
    TOLD.lock().unwrap().push((path.to_owned(), now.to_owned()));
}

fn told(path: &Path) -> PathBuf {
    let told = TOLD.lock().unwrap();
    let found: Vec<_> = told.iter().filter(|(was, _)| was == path).collect();
    let [(_, now)] = found[..] else { panic!("{found:?}") };
    now.clone()
}

/// Operations that file systems do not have: none, exchanging, that and more.
const LACKS: [FsLimits; 4] = [
    FsLimits { exchange: false, no_replace: false, link: false, copy: false },
    FsLimits { exchange: true, no_replace: false, link: false, copy: false },
    FsLimits { exchange: true, no_replace: true, link: false, copy: false },
    FsLimits { exchange: true, no_replace: true, link: true, copy: false },
];

#[test]
fn what_was_there_survives_on_any_file_system() {
    for lacks in LACKS {
        let folder = TestFolder::new();
        let path = folder.path("a.vft");
        for (force, before) in [(true, "old"), (false, "")] {
            fs::write(&path, before).unwrap();
            let id = id_at(&path);
            let opened = || {
                let mut output = RecordingOutput::create(&path, false, None, force)
                    .unwrap()
                    .lacking(lacks)
                    .on_unrestored(tell);
                assert!(output.open().unwrap());
                output
            };
            let mut output = opened();
            output.first().unwrap().write_all(b"new").unwrap();
            assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 2), "{lacks:?}");
            drop(output);
            assert_eq!((read(&path).as_str(), folder.names().len()), (before, 1), "{lacks:?}");
            assert_eq!(id_at(&path), id, "it is the very same file: {lacks:?}");
            let mut output = opened();
            output.first().unwrap().write_all(b"new").unwrap();
            assert!(output.keep_first_part().is_empty());
            drop(output);
            assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 1), "{lacks:?}");
        }
        fs::remove_file(&path).unwrap();
        let mut file = OutputTarget::inspect(&path, false, &[]).unwrap().lacking(lacks).named().unwrap();
        file.write_all(b"whole").unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(matches!(file.place(), Err(OutputError::Exists(_))));
        drop(file);
        assert_eq!((read(&path).as_str(), folder.names().len()), ("theirs", 1), "{lacks:?}");
    }
}

#[test]
fn what_was_there_survives_that_there_are_too_many_files() {
    for lacks in LACKS {
        let folder = TestFolder::new();
        let path = folder.path("a.vft");
        fs::write(&path, "old").unwrap();
        let id = id_at(&path);
        let lacks = FsLimits { copy: true, ..lacks };
        let mut output =
            RecordingOutput::create(&path, false, None, true).unwrap().lacking(lacks).on_unrestored(tell);
        assert!(output.open().unwrap());
        assert!(output.first().is_err());
        drop(output);
        assert_eq!((read(&path).as_str(), folder.names().len()), ("old", 1), "{lacks:?}");
        assert_eq!(id_at(&path), id, "it is the very same file: {lacks:?}");
    }
}

#[test]
fn where_files_cannot_be_given_a_name_they_have_one_from_the_start() {
    let folder = TestFolder::new();
    let path = folder.path("a.vft");
    let OpenAttempt::Ready(mut file) =
        OutputTarget::inspect(&path, false, &[]).unwrap().lacking(LACKS[3]).open().unwrap()
    else {
        panic!("it is a file")
    };
    assert_eq!(folder.names().len(), 1, "before anything is written");
    file.write_all(b"whole").unwrap();
    file.place().unwrap();
    drop(file);
    assert_eq!((read(&path).as_str(), folder.names()), ("whole", vec!["a.vft".to_owned()]));
}

#[test]
fn an_empty_file_that_has_gone_is_in_nobodys_way() {
    for lacks in LACKS {
        let folder = TestFolder::new();
        let path = folder.path("a.vft");
        let empty = || {
            fs::write(&path, "").unwrap();
            let target = OutputTarget::inspect(&path, false, &[]).unwrap().lacking(lacks);
            let OpenAttempt::Ready(file) = target.open().unwrap() else { panic!("it is a file") };
            file
        };
        let mut file = empty();
        fs::remove_file(&path).unwrap();
        file.place().unwrap();
        drop(file);
        fs::remove_file(&path).unwrap();
        // Another file belongs to another process, even if it is empty.
        for theirs in ["theirs", ""] {
            for now in [NewFile::place, NewFile::place_for_now] {
                let mut file = empty();
                let other = folder.path("b");
                fs::write(&other, theirs).unwrap();
                fs::rename(&other, &path).unwrap();
                assert!(matches!(now(&mut file), Err(OutputError::Exists(_))), "{lacks:?} {theirs}");
                drop(file);
                assert_eq!((read(&path).as_str(), folder.names().len()), (theirs, 1), "{lacks:?}");
            }
        }
    }
}

#[test]
fn what_is_not_taken_for_a_part_is_told_with_its_reason() {
    let folder = TestFolder::new();
    let path = folder.path("n.vft");
    let whole = part("one", 1, true);
    let mut other = header();
    other.schema = "vfio-trace.recording/2".to_owned();
    let mut newer = Vec::new();
    PartWriter::new(&mut newer, &other).unwrap();
    let name = folder.path("n.0001.vft");
    let why = || {
        let Err(OutputError::NoPart { why, .. }) = RecordingOutput::create(&path, true, None, true) else {
            panic!("taken")
        };
        why
    };
    for (bytes, expected) in [
        (whole[..whole.len() / 3].to_vec(), "it is cut"),
        (vec![0; 4096], "not a recording"),
        (newer, "a newer one may have made it"),
        (part("one", 7, true), "it is part 7"),
        (part("one", 1, false), "without --rotate"),
    ] {
        fs::write(&name, bytes).unwrap();
        assert!(why().contains(expected), "{}", why());
    }
    fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink("nowhere", &name).unwrap();
    assert!(why().contains("not a file"), "{}", why());
    fs::remove_file(&name).unwrap();
    fs::write(&name, &whole).unwrap();
    fs::write(folder.path("n.0002.vft"), part("two", 2, true)).unwrap();
    assert!(why().contains("another recording"), "{}", why());
}

#[test]
fn a_file_with_a_name_goes_away_too() {
    let folder = TestFolder::new();
    let path = folder.path("a.vft");
    let make = || OutputTarget::inspect(&path, false, &[]).unwrap().named().unwrap();
    let file = make();
    let [temporary] = &folder.names()[..] else { panic!("one file") };
    assert!(temporary.starts_with(".vfio-trace."));
    drop(file);
    assert!(folder.names().is_empty());
    let mut file = make();
    file.write_all(b"whole").unwrap();
    file.place().unwrap();
    drop(file);
    assert_eq!((read(&path).as_str(), folder.names().len()), ("whole", 1));
}

#[test]
fn older_parts_may_vanish_or_become_others() {
    let folder = TestFolder::new();
    let path = folder.path("n.vft");
    let name = |number: u32| folder.path(&format!("n.{number:04}.vft"));
    for number in 1..=4 {
        fs::write(name(number), part("one", number, true)).unwrap();
    }
    let mut output = forced(&path, true);
    drop(output.first().unwrap());
    // The second part is in the way only until this recording has begun.
    output.try_next().unwrap();
    fs::remove_file(name(2)).unwrap();
    fs::remove_file(name(3)).unwrap();
    fs::write(name(3), "theirs").unwrap();
    assert!(output.keep_first_part().is_empty());
    assert_eq!(folder.names(), ["n.0001.vft", "n.0003.vft"]);
    assert_eq!(read(&name(3)), "theirs");
    // A file that is not a part is reported as what it is.
    fs::write(name(2), "theirs").unwrap();
    assert!(matches!(output.try_next(), Err(OutputError::Exists(_))));
}

#[test]
fn a_part_that_cannot_be_written_to_does_not_stay() {
    let folder = TestFolder::new();
    let path = folder.path("n.vft");
    let mut output = forced(&path, true);
    output.first().unwrap().write_all(&part("one", 1, true)).unwrap();
    assert!(output.keep_first_part().is_empty());
    let mut output = output.lacking(FsLimits { copy: true, ..FsLimits::default() });
    assert!(matches!(output.next(2), Err(OutputError::Io { .. })));
    assert_eq!(folder.names(), ["n.0001.vft"]);
    drop(output);
    assert_eq!(folder.names(), ["n.0001.vft"], "what was recorded before stays");
}
