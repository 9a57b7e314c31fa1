//! A device whose driver has no migration.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Case, Seen, device, middle::row};
use crate::test::guest::Left;

pub(super) const SCRIPT: &str = "modprobe quayside && mdevs quayside-none 1 1 && hold held --device $(device 1) pause=/run/part/go || return 1\n\
     await pause [ -e /run/part/go.paused ] || return 1\n\
     vfio-trace list --json >list.json || return 1\n\
     vfio-trace show $(device 1) state 2>show.err; echo $? >show.code\n\
     vfio-trace doctor --json >doctor.json; echo $? >doctor.code\n\
     touch /run/part/go; wait $held";

pub(super) fn check(left: &Left, _case: &Case, _series: &str) -> Result<Seen> {
    let list = left.json("list.json")?;
    let migration = row(&list, &device(1))?.get("migration");
    ensure!(migration == Some(&Value::Bool(false)), "`list` says migration {migration:?}");
    let code = left.file("show.code")?;
    ensure!(code.trim() == "4", "`show` exits with {}", code.trim());
    ensure!(left.file("show.err")?.contains("no mig_ops"), "`show` does not say why");
    let (code, document) = (left.file("doctor.code")?, left.json("doctor.json")?);
    ensure!(code.trim() == "1", "with no other device, `doctor` exits with {}", code.trim());
    let verdict = document.get("verdict").and_then(Value::as_str);
    ensure!(verdict == Some("no_device_migrates"), "`doctor` says {verdict:?}");
    Ok(Seen::new("list, show and doctor say so", 3))
}
