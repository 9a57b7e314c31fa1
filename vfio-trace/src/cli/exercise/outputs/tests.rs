//! Outputs harm nobody, and their failures are theirs alone.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::{super::tests::args, *};
use crate::{
    cli::{error::FAILED, exercise::inputs::ImageInput},
    units::test_folder::TestFolder,
};

/// Makes a pipe with a name; returns the name as it is given on a command line.
fn fifo(folder: &TestFolder) -> String {
    folder.fifo("pipe");
    folder.text("pipe")
}

fn look(words: &[&str]) -> Result<ExerciseOutputs, CliError> {
    ExerciseOutputs::look(&args(&[&["dev"], words].concat()), &Arc::default())
}

fn refused(words: &[&str]) -> String {
    match look(words) {
        Ok(_) => panic!("{words:?} was taken"),
        Err(error) => {
            assert_eq!(error.code, USAGE, "{words:?}");
            format!("{error:?}")
        },
    }
}

/// Writes as a run does; returns the note that it makes, and its result.
fn run(mut outputs: ExerciseOutputs, image: &[u8]) -> (Result<(), String>, Result<(), CliError>) {
    let keeper = outputs.keeper().unwrap();
    keeper.begin().unwrap();
    keeper.put(image);
    let kept = keeper.finish();
    (kept, outputs.finish(|| "<testsuites/>".to_owned()))
}

fn stop_soon(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    drop(thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    }));
}

#[test]
fn a_whole_image_appears_private() {
    let folder = TestFolder::new();
    let (out, junit) = (folder.text("image"), folder.text("junit"));
    let outputs = look(&["--out", &out, "--junit", &junit]).unwrap();
    assert_eq!(folder.names().len(), 0, "nothing is made before the device is open");
    let (kept, ended) = run(outputs, b"state");
    kept.unwrap();
    ended.unwrap();
    assert_eq!(fs::read(&out).unwrap(), b"state");
    assert_eq!(fs::read(&junit).unwrap(), b"<testsuites/>");
    for path in [&out, &junit] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(folder.names().len(), 2);
}

#[test]
fn a_part_of_an_image_does_not_appear() {
    let folder = TestFolder::new();
    let out = folder.text("image");
    let mut outputs = look(&["--out", &out]).unwrap();
    outputs.keeper().unwrap().begin().unwrap();
    outputs.keeper().unwrap().put(b"half");
    outputs.finish(String::new).unwrap();
    assert_eq!(folder.names().len(), 0);
    // The device was not to be had.
    drop(look(&["--out", &out]).unwrap());
    assert_eq!(folder.names().len(), 0);
}

#[test]
fn what_is_there_stays() {
    let folder = TestFolder::new();
    let path = folder.text("there");
    fs::write(&path, "precious").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    symlink("there", folder.text("link")).unwrap();
    for option in ["--out", "--junit"] {
        for force in [&[][..], &["--force"]] {
            let said = refused(&[&[option, &path][..], force].concat());
            assert!(said.contains("exists already") && !said.contains("--force"), "{said}");
            let said = refused(&[&[option, &folder.text("link")][..], force].concat());
            assert!(said.contains("symbolic link"), "{said}");
        }
    }
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    // It came meanwhile.
    let late = folder.text("late");
    let outputs = look(&["--out", &late]).unwrap();
    fs::write(&late, "theirs").unwrap();
    let (kept, ended) = run(outputs, b"state");
    let said = format!("{:?}", ended.unwrap_err());
    assert!(kept.is_err() && said.contains("exists already") && !said.contains("--force"), "{said}");
    assert_eq!(fs::read(&late).unwrap(), b"theirs");
}

#[test]
fn what_is_another_users_is_not_filled() {
    let folder = TestFolder::new();
    let path = folder.text("theirs");
    fs::write(&path, "").unwrap();
    if chown(&path, Some(65534), None).is_err() {
        eprintln!("SKIPPED: only root can make a file of another user's");
        return;
    }
    for option in ["--out", "--junit"] {
        let said = refused(&[option, &path]);
        assert!(said.contains("another user"), "{said}");
    }
}

#[test]
fn devices_keep_their_mode() {
    let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
    let before = mode();
    let (kept, ended) = run(look(&["--out", "/dev/null", "--junit", "/dev/null"]).unwrap(), b"state");
    kept.unwrap();
    ended.unwrap();
    assert_eq!(mode(), before);
}

#[test]
fn a_full_disk_is_the_outputs_failure() {
    // Told of the image and for the exit code; no step sees it.
    let (kept, ended) = run(look(&["--out", "/dev/full"]).unwrap(), &vec![0; 1 << 20]);
    let said = kept.unwrap_err();
    assert!(said.contains("/dev/full") && said.contains("No space"), "{said}");
    let error = ended.unwrap_err();
    assert!(error.code == FAILED && error.sentence() == said, "{error:?}");
    let error = look(&["--junit", "/dev/full"]).unwrap().finish(|| "x".to_owned()).unwrap_err();
    assert!(error.sentence().contains("No space"), "{error:?}");
}

#[test]
fn no_two_are_the_same_file() {
    let folder = TestFolder::new();
    let (new, there) = (folder.text("new"), folder.text("there"));
    fs::write(&there, "image").unwrap();
    fs::hard_link(&there, folder.text("hard")).unwrap();
    let pipe = fifo(&folder);
    let other = format!("{}/./new", folder.root().display());
    for words in [
        ["--out", &there, "--in", &there],
        ["--out", &folder.text("hard"), "--in", &there],
        ["--junit", &there, "--wrong", &there],
        ["--out", &new, "--junit", &other],
        ["--out", &pipe, "--in", &pipe],
    ] {
        let said = refused(&words);
        assert!(said.contains("the same file"), "{said}");
    }
    assert!(refused(&["--out", "-"]).contains("the report goes there"));
    drop(look(&["--out", &new, "--junit", &folder.text("other"), "--in", &there]).unwrap());
}

#[test]
fn waiting_for_a_reader_ends() {
    let folder = TestFolder::new();
    let pipe = fifo(&folder);
    let began = Instant::now();
    let stop = Arc::default();
    stop_soon(&stop);
    let line = args(&["dev", "--out", &pipe]);
    let mut outputs = ExerciseOutputs::look(&line, &stop).unwrap();
    let said = outputs.keeper().unwrap().begin().unwrap_err();
    assert!(said.contains("nobody reads"), "{said}");
    assert!(outputs.take_error().is_some());

    // One that reads no further.
    let stop = Arc::default();
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut outputs = ExerciseOutputs::look(&line, &stop).unwrap();
    outputs.keeper().unwrap().begin().unwrap();
    stop_soon(&stop);
    outputs.keeper().unwrap().put(&vec![0; 1 << 20]);
    let said = outputs.keeper().unwrap().finish().unwrap_err();
    assert!(said.contains("has made no room"), "{said}");
    drop(reader);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn images_come_from_pipes_too() {
    let folder = TestFolder::new();
    let pipe = folder.fifo("pipe");
    let input = ImageInput::open(&pipe).unwrap();
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, vec![7; 1 << 18]).unwrap()
    });
    assert_eq!(input.read(&AtomicBool::new(false)).unwrap(), vec![7; 1 << 18]);
    writer.join().unwrap();

    // Nobody writes, or no further.
    let writer = || fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    for connected in [false, true] {
        let writer = connected.then(writer);
        let stop = Arc::default();
        let input = ImageInput::open(&pipe).unwrap();
        if let Some(mut writer) = writer.as_ref() {
            writer.write_all(b"half").unwrap();
        }
        stop_soon(&stop);
        let began = Instant::now();
        let error = input.read(&stop).unwrap_err();
        assert!(error.sentence().contains("it was to stop"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    let empty = folder.path("empty");
    fs::write(&empty, "").unwrap();
    assert!(ImageInput::open(&empty).unwrap_err().sentence().contains("empty"));
    assert!(ImageInput::open(folder.root()).is_err() && ImageInput::open(&folder.path("none")).is_err());
}
