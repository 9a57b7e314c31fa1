//! Dirty tracking as the tracer reports it, compared with the requests. On 6.1, the only kernel here whose core can
//! report (later ones need IOMMUFD for it, which Debian's 6.12 does not have).

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    Check, Found,
    guest::Lab,
    traced::{Traced, data},
};
use crate::lab;

pub(super) fn checks() -> Vec<Check> {
    vec![Check::new("tail: dirty tracking on 6.1", |_| logging("6.1"))]
}

/// Checks three requests: every fourth page is dirty; a bitmap that is too long to be counted; a start that fails.
fn logging(series: &str) -> Result<Found> {
    let script = "cd $LAB_RESULTS; modprobe -a vfio_iommu_type1 quayside || exit 1
        vfio-trace tail --format ndjson --kind feature -- lab-step --create quayside-full \
            knob=dirty_pattern:4 'knob=log_fail:95 1' 'log-start=0x100000:1M:4K!EOPNOTSUPP' \
            log-start=0x100000:1M:4K log-report=0x100000:1M:4K log-report=0x100000:256K:16K log-stop \
            log-start=0:1G:4K log-report=0:1G:4K log-stop >events.ndjson";
    let guest = Lab::new(lab::ready(series, false)?)?.run("dirty", script)?;
    let traced = Traced::parse(&guest.file("events.ndjson")?)?;
    let calls: Vec<&Value> = traced
        .events
        .iter()
        .filter(|event| event.get("kind") == Some(&json!("feature")))
        .map(data)
        .filter(|data| data.get("op") != Some(&json!("probe")))
        .filter(|data| {
            data.get("feature").and_then(Value::as_str).is_some_and(|name| name.contains("LOGGING"))
        })
        .collect();
    let said: Vec<Value> = calls
        .iter()
        .map(|data| {
            let of = |name: &str| data.pointer(&format!("/detail/{name}")).cloned().unwrap_or(Value::Null);
            let name = data.get("feature").and_then(Value::as_str).unwrap_or_default();
            let errno = data.get("errno").cloned().unwrap_or(Value::Null);
            json!([
                name.trim_start_matches("DMA_LOGGING_"),
                errno,
                of("iova_ranges"),
                of("span_bytes"),
                of("dirty_pages")
            ])
        })
        .collect();
    let range = |iova: &str, length: u64| json!([{"iova": iova, "length_bytes": length}]);
    let (mib, gib) = (1u64 << 20, 1u64 << 30);
    let wanted = [
        json!(["START", "EOPNOTSUPP", range("0x100000", mib), mib, null]),
        json!(["START", null, range("0x100000", mib), mib, null]),
        json!(["REPORT", null, null, null, 64]),
        json!(["REPORT", null, null, null, 16]),
        json!(["STOP", null, null, null, null]),
        json!(["START", null, range("0x0", gib), gib, null]),
        // 262144 pages are more than the tracer counts.
        json!(["REPORT", null, null, null, null]),
        json!(["STOP", null, null, null, null]),
    ];
    ensure!(said == wanted, "dirty tracking was told as\n{}\nand not as\n{}", json!(said), json!(wanted));
    Ok(Found::one(format!("{} calls: ranges, span, pages, errno", said.len())))
}
