//! Starts the program, in folders of a test's own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// No run takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A folder that goes away with the test.
pub(crate) struct CliTestFolder(TempDir);

impl CliTestFolder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// A recording that is kept for tests.
pub(crate) fn testdata(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/cli/testdata", "src/cli/testdata", "src/cli/replay/testdata"];
    folders.iter().map(|folder| root.join(folder).join(name)).find(|path| path.exists()).unwrap()
}

/// End of a run.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl RunResult {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }
}

/// Runs it with arguments, without input.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: &[A]) -> RunResult {
    run_with(arguments, Stdio::null(), None)
}

/// Runs it with another standard input, and another standard output if one is given.
pub(crate) fn run_with<A: AsRef<OsStr>>(arguments: &[A], input: Stdio, output: Option<Stdio>) -> RunResult {
    wait_for(&mut Command::new(env!("CARGO_BIN_EXE_vfio-trace")), arguments, input, output)
}

/// Runs it as a shell does after `setup`, commands of which it inherits what they set.
pub(crate) fn run_after<A: AsRef<OsStr>>(setup: &str, arguments: &[A], output: Option<Stdio>) -> RunResult {
    let line = format!("{setup}; exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_vfio-trace")]);
    wait_for(&mut shell, arguments, Stdio::null(), output)
}

fn wait_for<A: AsRef<OsStr>>(
    command: &mut Command,
    arguments: &[A],
    input: Stdio,
    output: Option<Stdio>,
) -> RunResult {
    let folder = CliTestFolder::new();
    let [out, err] = ["out", "err"].map(|name| folder.path(name));
    let mut child = command
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(input)
        .stdout(output.unwrap_or_else(|| File::create(&out).unwrap().into()))
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{:?} does not end", arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
        thread::sleep(Duration::from_millis(2));
    };
    RunResult {
        code: status.code().unwrap_or_else(|| panic!("it ended by {status}")),
        out: fs::read(&out).unwrap_or_default(),
        err: String::from_utf8(fs::read(&err).unwrap()).unwrap(),
    }
}
