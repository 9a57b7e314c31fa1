//! Onto everything that may be at a name.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown, symlink},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use super::*;
use crate::units::test_folder::TestFolder;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn create(path: &Path, force: bool) -> Result<OutFile, CliError> {
    OutFile::create(path, force, &[])
}

fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<bool, CliError> {
    let mut out = create(path, force)?;
    let _noted = out.write_all(bytes).is_err();
    out.finish()
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = TestFolder::new();
    let path = folder.path("a.json");
    let mut out = create(&path, false).unwrap();
    assert!(folder.names().is_empty(), "opened with the first byte");
    out.write_all(b"half").unwrap();
    out.flush().unwrap();
    assert!(folder.names().is_empty(), "who is killed leaves nothing behind");
    drop(out);
    assert!(folder.names().is_empty(), "what was given up is gone");

    assert!(write(&path, false, b"whole").unwrap());
    assert_eq!((folder.names(), fs::read(&path).unwrap()), (vec!["a.json".to_owned()], b"whole".to_vec()));
    assert_eq!(mode(&path), 0o600);

    assert!(create(&path, false).is_err(), "it would have been replaced");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut out = create(&path, true).unwrap();
    out.write_all(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole", "the old one stays until the new one is whole");
    out.finish().unwrap();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
}

#[test]
fn what_came_meanwhile_is_not_overwritten() {
    let folder = TestFolder::new();
    let path = folder.path("a.json");
    let mut out = create(&path, false).unwrap();
    out.write_all(b"ours").unwrap();
    fs::write(&path, "theirs").unwrap();
    out.finish().unwrap_err();
    assert_eq!((fs::read(&path).unwrap(), folder.names().len()), (b"theirs".to_vec(), 1));

    let path = folder.path("mktemp");
    fs::write(&path, "").unwrap();
    let mut out = create(&path, false).unwrap();
    out.write_all(b"ours").unwrap();
    fs::write(&path, "theirs").unwrap();
    out.finish().unwrap_err();
    assert_eq!((fs::read(&path).unwrap(), folder.names().len()), (b"theirs".to_vec(), 2));
    fs::write(&path, "").unwrap();
    write(&path, false, b"ours").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ours", "an empty one was made for us");
}

#[test]
fn no_link_is_followed() {
    let folder = TestFolder::new();
    let (path, link) = (folder.path("a.json"), folder.path("link"));
    for target in ["a.json", "/dev/null"] {
        symlink(target, &link).unwrap();
        for force in [false, true] {
            assert!(create(&link, force).is_err(), "{target} {force}");
        }
        fs::remove_file(&link).unwrap();
    }
    // One that comes later is not followed either.
    let mut out = create(&link, false).unwrap();
    out.write_all(b"ours").unwrap();
    symlink("a.json", &link).unwrap();
    out.finish().unwrap_err();
    assert!(link.is_symlink() && !path.exists());
}

#[test]
fn what_is_another_users_is_not_filled() {
    let folder = TestFolder::new();
    let path = folder.path("theirs");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    if chown(&path, Some(65534), None).is_err() {
        eprintln!("SKIPPED: only root can make a file of another user's");
        return;
    }
    let before = fs::metadata(&path).unwrap();
    let Err(error) = create(&path, false) else { panic!("it was taken") };
    assert!(format!("{error:?}").contains("another user"), "{error:?}");
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.len(), before.permissions()), (after.len(), after.permissions()));
}

#[test]
fn what_is_read_is_not_replaced() {
    let folder = TestFolder::new();
    let input = folder.path("in.vft");
    fs::write(&input, "recording").unwrap();
    fs::hard_link(&input, folder.path("hard")).unwrap();
    symlink("in.vft", folder.path("soft")).unwrap();
    for (output, input) in [("in.vft", "in.vft"), ("hard", "in.vft"), ("in.vft", "soft")] {
        let (output, input) = (folder.path(output), folder.path(input));
        assert!(OutFile::create(&output, true, &[PathBuf::from("-"), input]).is_err());
    }
    assert_eq!(fs::read(&input).unwrap(), b"recording");
}

#[test]
fn devices_and_pipes_are_written_as_they_are() {
    let before = mode(Path::new("/dev/null"));
    assert!(write(Path::new("/dev/null"), false, b"x").unwrap());
    assert!(write(Path::new("/dev/null"), true, b"x").unwrap());
    assert_eq!(mode(Path::new("/dev/null")), before);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

    let folder = TestFolder::new();
    let fifo = folder.fifo("pipe");
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    assert!(write(&fifo, false, &vec![7; 1 << 18]).unwrap());
    assert_eq!(reader.join().unwrap(), vec![7; 1 << 18]);
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());

    // Nobody reads, and it is to stop.
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(true));
    let mut out = create(&fifo, false).unwrap().stopped_by(StopFlag::new(&stop));
    assert!(out.write_all(b"x").is_err());
    out.finish().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_pipe_that_somebody_may_have_laid_out_for_us_is_refused() {
    let folder = TestFolder::new();
    let fifo = folder.fifo("pipe");
    if chown(&fifo, Some(65534), None).is_err() {
        return; // Only root can make one of another user.
    }
    let above = fifo.parent().unwrap();
    for mode in [0o777, 0o1777, 0o707] {
        fs::set_permissions(above, fs::Permissions::from_mode(mode)).unwrap();
        for force in [false, true] {
            let error = create(&fifo, force).err().unwrap_or_else(|| panic!("{mode:o}"));
            assert!(format!("{error:?}").contains("belongs to another user"), "{error:?}");
        }
    }
    // Where only we could have put it, and where who owns the folder has, it is meant.
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    create(&fifo, false).unwrap();
    fs::set_permissions(above, fs::Permissions::from_mode(0o777)).unwrap();
    chown(above, Some(65534), None).unwrap();
    create(&fifo, false).unwrap();
}

#[test]
fn what_cannot_be_written_is_told() {
    assert!(create(Path::new("/proc/no/such"), false).is_err());
    assert!(create(&std::env::temp_dir(), true).is_err());
    let folder = TestFolder::new();
    assert!(create(&folder.path("no-folder/"), true).is_err());
    // Always full; told at the end too, also of the last byte.
    for bytes in [1, 1 << 17] {
        let mut out = create(Path::new("/dev/full"), false).unwrap();
        let _unheard = out.write_all(&vec![0; bytes]).is_err();
        let Err(error) = out.finish() else { panic!("{bytes} bytes are lost in silence") };
        assert!(format!("{error:?}").contains("make room"), "{error:?}");
    }
}
