//! What a recording replaces is there until there is something in its place.

use super::*;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn forced(path: &Path, rotate: bool) -> Output {
    let mut output = Output::create(path, rotate, None, true).unwrap();
    assert!(output.open().unwrap());
    output
}

#[test]
fn what_was_to_be_replaced_comes_back_if_nothing_came_of_it() {
    let folder = Folder::new("comes-back");
    let path = folder.0.join("a.vft");
    fs::write(&path, "old").unwrap();
    let mut output = forced(&path, false);
    assert_eq!(folder.names(), ["a.vft"], "who is killed leaves nothing behind");
    assert!(output.is_file());
    output.first().unwrap().write_all(b"new").unwrap();
    assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 2));
    drop(output);
    assert_eq!((read(&path).as_str(), folder.names().len()), ("old", 1));
    // It is begun: now it is gone.
    let mut output = forced(&path, false);
    output.first().unwrap().write_all(b"new").unwrap();
    assert!(output.begun().is_empty());
    drop(output);
    assert_eq!((read(&path).as_str(), folder.names().len()), ("new", 1));
    // What somebody has put there meanwhile is not ours to take away.
    let mut output = forced(&path, false);
    drop(output.first().unwrap());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "theirs").unwrap();
    drop(output);
    assert_eq!(read(&path), "theirs");
}

#[test]
fn a_file_with_a_name_goes_away_too() {
    let folder = Folder::new("named");
    let path = folder.0.join("a.vft");
    let make = || Target::look(&path, false, &[]).unwrap().named().unwrap();
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
    let folder = Folder::new("vanish");
    let path = folder.0.join("n.vft");
    let name = |number: u32| folder.0.join(format!("n.{number:04}.vft"));
    for number in 1..=4 {
        fs::write(name(number), part("one", number, true)).unwrap();
    }
    let mut output = forced(&path, true);
    drop(output.first().unwrap());
    // The second one is in the way only until this recording has begun.
    output.try_next().unwrap();
    fs::remove_file(name(2)).unwrap();
    fs::remove_file(name(3)).unwrap();
    fs::write(name(3), "theirs").unwrap();
    assert!(output.begun().is_empty());
    assert_eq!(folder.names(), ["n.0001.vft", "n.0003.vft"]);
    assert_eq!(read(&name(3)), "theirs");
    // One that is none of ours is told as what it is.
    fs::write(name(2), "theirs").unwrap();
    assert!(matches!(output.try_next(), Err(OutputError::Exists(_))));
}
