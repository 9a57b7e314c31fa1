//! Carries out commands written to a `debug` file, in a new process: this one has given up the rights for it.

use std::{
    path::PathBuf,
    process::{Command as Process, Stdio},
};

use crate::{
    cli::error::{IN_USE, NOT_PERMITTED, NOT_SUPPORTED},
    mount::{DebugCommand, DeviceExerciser, ExerciseOutcome},
};

/// Exerciser that runs `vfio-trace exercise`, from the program file of this process.
#[derive(Debug)]
pub(super) struct ExerciseProcess;

impl DeviceExerciser for ExerciseProcess {
    fn exercise(&self, device: &str, command: DebugCommand) -> (ExerciseOutcome, String) {
        let plan = match command {
            DebugCommand::Save => "save",
            DebugCommand::Resume => "resume",
            DebugCommand::IoTest => "io-test",
        };
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("vfio-trace"));
        let output = Process::new(program)
            .args(["exercise", device, "--plan", plan, "--yes", "--tell-in-use", "--color", "never"])
            .stdin(Stdio::null())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(why) => {
                return (ExerciseOutcome::Unsupported, format!("plan {plan} could not be started: {why}\n"));
            },
        };
        let code = output.status.code();
        // `--tell-in-use` gives a device in use a code of its own; the text has the public one.
        let public = code.map(|code| if code == i32::from(IN_USE) { i32::from(NOT_PERMITTED) } else { code });
        let how = match code {
            Some(0) => ExerciseOutcome::Well,
            Some(code) if code == i32::from(IN_USE) => ExerciseOutcome::InUse,
            Some(code) if code == i32::from(NOT_PERMITTED) => ExerciseOutcome::NotPermitted,
            Some(code) if code == i32::from(NOT_SUPPORTED) => ExerciseOutcome::Unsupported,
            _ => ExerciseOutcome::Failed,
        };
        let ended = public.map_or_else(|| output.status.to_string(), |code| format!("exit code {code}"));
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        (how, format!("plan {plan}: {ended}\n{}", said.concat()))
    }
}
