//! One migration, from its start to the end that its scenario expects.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::json;

use super::cli::{Args, Scenario};
use super::vm::Vm;
use crate::proxy::Proxy;
use crate::report::{FirstError, Report};
use crate::states::MigState;
use crate::wait;

/// A migration between two VMs. [`run`](Self::run) takes it through its scenario.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    args: &'a Args,
    report: &'a Report,
    source: &'a mut Vm,
    destination: &'a mut Vm,
    /// Position of this migration's first event: in a ping-pong the VM has older ones.
    source_mark: usize,
    destination_mark: usize,
    /// Socket on which the destination listens.
    socket: PathBuf,
    proxy: Option<Proxy>,
    /// Exit status of a destination that was killed.
    killed: Option<String>,
}

/// Facts about a migration that only the flow knows, for the summary (`migrate.json`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Traces {
    /// Bytes of the stream that passed the proxy, in the scenarios that have one.
    pub(crate) proxy_forwarded_bytes: Option<u64>,
    /// Exit status of the destination, if this program killed it.
    pub(crate) destination_killed: Option<String>,
}

impl<'a> Flow<'a> {
    pub(crate) fn new(
        args: &'a Args,
        report: &'a Report,
        folder: &Path,
        source: &'a mut Vm,
        destination: &'a mut Vm,
    ) -> Self {
        let (source_mark, destination_mark) = (source.qemu.qmp.mark(), destination.qemu.qmp.mark());
        let socket = folder.join(format!("{}.stream", destination.name));
        Self {
            args,
            report,
            source,
            destination,
            source_mark,
            destination_mark,
            socket,
            proxy: None,
            killed: None,
        }
    }

    /// Runs the migration. An error says what was not as the scenario expects.
    pub(crate) fn run(mut self) -> (Result<()>, Traces) {
        let mut errors = FirstError::default();
        errors.note(self.start().and_then(|()| match self.args.scenario {
            Scenario::Ok => self.completes(),
            Scenario::Pause => self.pauses(),
            Scenario::Cancel => self.cancels(),
            Scenario::KillDestination => self.loses_destination(),
            Scenario::Mismatch => self.is_refused(),
        }));
        let mut traces = Traces { destination_killed: self.killed.take(), ..Traces::default() };
        if let Some(proxy) = self.proxy.take() {
            traces.proxy_forwarded_bytes = Some(proxy.forwarded());
            errors.note(proxy.finish());
        }
        (errors.into_result(), traces)
    }

    /// Configures both ends and starts the migration.
    fn start(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        let stalls = matches!(self.args.scenario, Scenario::Cancel | Scenario::KillDestination);
        // With the return path, a source has only completed when the destination has said that all is loaded. A migration
        // that is to be cancelled has none: migrate_cancel closes that first, which is the same socket, and notes only
        // then that it cancels. A source that gets the error in between has failed.
        let returns = self.args.scenario != Scenario::Cancel && !self.args.then_cancel;
        for vm in [&mut *self.source, &mut *self.destination] {
            let capabilities = json!([
                {"capability": "events", "state": true},
                {"capability": "return-path", "state": returns},
            ]);
            vm.execute("migrate-set-capabilities", json!({"capabilities": capabilities}), timeout)?;
        }
        let pause = json!([
            {"capability": "pause-before-switchover", "state": self.args.scenario == Scenario::Pause},
        ]);
        self.source.execute("migrate-set-capabilities", json!({"capabilities": pause}), timeout)?;
        let parameters = if stalls {
            // Never ready to switch over, and more to send than socket buffers hold: it must hang in PRE_COPY.
            json!({"downtime-limit": 1, "avail-switchover-bandwidth": 1, "zero-page-detection": "none"})
        } else {
            // Ready at once: without MIG_DATA_SIZE (6.1) QEMU assumes 100 GiB of device state.
            json!({"downtime-limit": 2_000_000, "avail-switchover-bandwidth": 1_u64 << 50})
        };
        self.source.execute("migrate-set-parameters", parameters, timeout)?;
        let incoming = json!({"uri": format!("unix:{}", self.socket.display()), "exit-on-error": false});
        self.destination.execute("migrate-incoming", incoming, timeout)?;
        let mut target = self.socket.clone();
        if stalls {
            target.set_extension("proxy");
            let proxy = Proxy::start(&target, &self.socket, self.args.stall_after, timeout)?;
            self.proxy = Some(proxy);
        }
        thread::sleep(self.args.pause());
        self.report.say(&format!("migrate {} -> {}", self.source.name, self.destination.name));
        self.source.execute("migrate", json!({"uri": format!("unix:{}", target.display())}), timeout)?;
        Ok(())
    }

    fn completes(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.source.reach_status("completed", self.source_mark, timeout)?;
        self.destination.reach_status("completed", self.destination_mark, timeout)?;
        self.source.reach_state(MigState::STOP, self.source_mark, timeout)?;
        self.destination.reach_state(MigState::RUNNING, self.destination_mark, timeout)?;
        self.destination.reach_running(timeout)
    }

    fn pauses(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.source.reach_status("pre-switchover", self.source_mark, timeout)?;
        thread::sleep(self.args.pause());
        if self.args.then_cancel {
            return self.cancel();
        }
        self.report.say("migrate-continue");
        self.source.execute("migrate-continue", json!({"state": "pre-switchover"}), timeout)?;
        self.completes()
    }

    fn cancels(&mut self) -> Result<()> {
        self.reach_stall()?;
        self.cancel()
    }

    fn cancel(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.report.say("migrate_cancel");
        self.source.execute("migrate_cancel", json!({}), timeout)?;
        self.source.reach_status("cancelled", self.source_mark, timeout)?;
        self.recovers()?;
        self.destination.reach_status("failed", self.destination_mark, timeout)
    }

    fn loses_destination(&mut self) -> Result<()> {
        self.reach_stall()?;
        self.report.say(&format!("SIGKILL to {}", self.destination.title()));
        self.killed = Some(self.destination.qemu.kill()?);
        self.source.reach_status("failed", self.source_mark, self.args.timeout())?;
        self.recovers()
    }

    fn is_refused(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.destination.reach_status("failed", self.destination_mark, timeout)?;
        self.source.reach_status("failed", self.source_mark, timeout)?;
        self.recovers()
    }

    /// Waits until the stream hangs while the source's device is in PRE_COPY.
    fn reach_stall(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.source.reach_status("active", self.source_mark, timeout)?;
        self.source.reach_state(MigState::PRE_COPY, self.source_mark, timeout)?;
        let proxy = self.proxy.as_ref().context("this scenario needs the proxy")?;
        let (source, mark) = (&*self.source, self.source_mark);
        wait::until("the stream to reach the proxy's limit (--stall-after)", timeout, || {
            if let Some(status) = source.final_status(mark) {
                bail!("the migration {status} before the stream stalled; give a smaller --stall-after");
            }
            Ok(proxy.stalled().then_some(()))
        })?;
        self.report.say(&format!("proxy: stalled after {} bytes", proxy.forwarded()));
        thread::sleep(self.args.pause());
        Ok(())
    }

    /// Checks that a failure left no trace on the source: device RUNNING, guest running.
    fn recovers(&mut self) -> Result<()> {
        let timeout = self.args.timeout();
        self.source.reach_state(MigState::RUNNING, self.source_mark, timeout)?;
        self.source.reach_running(timeout)
    }
}
