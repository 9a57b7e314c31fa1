//! Compares the images of data files with the bytes that crossed the data fd.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Scenario, run::number};
use crate::test::traced::{data, text};

/// Layout of `struct acc_vf_data` on both kernels: member, bytes of an element, elements. No gaps; 176 bytes.
const MEMBERS: [(&str, usize, usize); 23] = [
    ("acc_magic", 8, 1),
    ("qp_num", 4, 1),
    ("dev_id", 4, 1),
    ("que_iso_cfg", 4, 1),
    ("qp_base", 4, 1),
    ("vf_qm_state", 4, 1),
    ("major_ver", 2, 1),
    ("minor_ver", 2, 1),
    ("qm_rsv_state", 4, 2),
    ("aeq_int_mask", 4, 1),
    ("eq_int_mask", 4, 1),
    ("ifc_int_source", 4, 1),
    ("ifc_int_mask", 4, 1),
    ("ifc_int_set", 4, 1),
    ("page_size", 4, 1),
    ("qm_eqc_dw", 4, 7),
    ("qm_aeqc_dw", 4, 7),
    ("qm_rsv_regs", 4, 5),
    ("padding", 4, 1),
    ("eqe_dma", 8, 1),
    ("aeqe_dma", 8, 1),
    ("sqc_dma", 8, 1),
    ("cqc_dma", 8, 1),
];

/// Compares the image after each step that moved bytes. Returns the number of members compared.
pub(super) fn compare(scenario: &Scenario) -> Result<usize> {
    let mut compared = 0;
    for device in scenario.devices() {
        // Bytes of the session in use so far.
        let mut moved: Vec<u8> = Vec::new();
        for step in scenario.steps.iter().filter(|step| text(step, "device") == Some(device)) {
            let values = step.get("values").unwrap_or(&Value::Null);
            if values.get("data_fd").is_some_and(|fd| !fd.is_null()) {
                moved.clear();
            }
            let Some(hex) = text(values, "moved") else { continue };
            let bytes = bytes_of(hex).context("a step with odd bytes")?;
            let verb = text(step, "step").unwrap_or_default();
            let loads = verb.contains("write");
            let begin = moved.len();
            // A write that was too long, or to a file that was ended, puts nothing into the driver.
            if bytes.is_empty() || text(step, "errno").is_some_and(|errno| errno != "EFAULT") {
                continue;
            }
            moved.extend(bytes);
            let name = if loads { "resuming_migf" } else { "saving_migf" };
            // Bytes that were read before may have changed since; bytes that were written are there as a whole.
            let from = if loads { 0 } else { begin };
            let end_ns = number(step, "end_ns");
            let image = scenario
                .of("image", device)
                .filter(|image| number(image, "mono_ns") <= end_ns && text(data(image), "name") == Some(name))
                .last()
                .map(data)
                .with_context(|| format!("no image {name} of {device} at {verb}"))?;
            ensure!(image.get("complete") == Some(&Value::Bool(true)), "an image is not complete");
            compared += members(image, &moved, from).with_context(|| format!("{verb} of {device}"))?;
            let length = member(image, "total_length")?.first().copied().context("no total_length")?;
            ensure!(
                length == moved.len() as u64 || (!loads && length > moved.len() as u64),
                "{} bytes crossed the fd, total_length is {length}",
                moved.len()
            );
        }
    }
    Ok(compared)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Returns a member's elements. In the image those of eight bytes are text.
fn member(image: &Value, path: &str) -> Result<Vec<u64>> {
    let value = image.get("fields").and_then(|fields| fields.get(path));
    let value = value.with_context(|| format!("the image has no {path}"))?;
    let one = |value: &Value| match value {
        Value::String(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        other => other.as_u64(),
    };
    let values = value.as_array().map_or_else(|| vec![one(value)], |all| all.iter().map(one).collect());
    values.into_iter().collect::<Option<_>>().with_context(|| format!("{path} is {value}"))
}

/// Compares the members that lie in `moved[from..]`. Returns their number.
fn members(image: &Value, moved: &[u8], from: usize) -> Result<usize> {
    let (mut at, mut compared) = (0, 0);
    for (name, size, count) in MEMBERS {
        let wanted = moved.get(at..at + size * count);
        if let Some(wanted) = wanted.filter(|_| at >= from) {
            let wanted: Vec<u64> = wanted
                .chunks(size)
                .map(|bytes| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
                .collect();
            let shown = member(image, &format!("vf_data.{name}"))?;
            ensure!(shown == wanted, "{name} is {shown:x?} in the image, and {wanted:x?} crossed the fd");
            compared += 1;
        }
        at += size * count;
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_members_fill_the_structure() {
        assert_eq!(MEMBERS.iter().map(|(_, size, count)| size * count).sum::<usize>(), 176);
    }

    #[test]
    fn members_are_compared_where_bytes_are() {
        let image = json!({"fields": {"vf_data.acc_magic": "0x807060504030201", "vf_data.qp_num": 64}});
        let moved = [1, 2, 3, 4, 5, 6, 7, 8, 64, 0, 0, 0];
        assert_eq!(members(&image, &moved, 0).unwrap(), 2);
        assert_eq!(members(&image, &moved, 8).unwrap(), 1);
        assert_eq!(members(&image, &moved[..11], 0).unwrap(), 1);
        members(&image, &[0; 8], 0).unwrap_err();
        // A signed or redacted value would be no number.
        members(&json!({"fields": {"vf_data.acc_magic": "redacted"}}), &moved, 0).unwrap_err();
    }
}
