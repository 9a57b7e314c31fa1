//! Comparison of the image that one device has saved with the image that another device was given.

use super::FindingDraft;
use crate::{
    driver::hisi_acc::data::{MATCH_LEN, MigfImage},
    event::{DriverFinding, FindingSeverity},
};

/// Both ends of a stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver::hisi_acc) struct StreamEnds<'a> {
    /// Name of the device that saved.
    pub(in crate::driver::hisi_acc) name: &'a str,
    pub(in crate::driver::hisi_acc) from: &'a MigfImage,
    pub(in crate::driver::hisi_acc) to: &'a MigfImage,
    /// True if the process that wrote the stream had read it from that device, and the image is not known to have gone
    /// elsewhere.
    pub(in crate::driver::hisi_acc) related: bool,
    /// True if no more data will arrive.
    pub(in crate::driver::hisi_acc) whole: bool,
}

/// Compares both ends of a stream. Reports that they are equal, or, if they are known to belong together, the members
/// that differ.
pub(in crate::driver::hisi_acc) fn compare(ends: StreamEnds<'_>) -> Option<DriverFinding> {
    let StreamEnds { name, from, to, related, whole } = ends;
    let lengths = (from.total_length(), to.total_length());
    // A VF without a guest driver, or one in the middle of PRE_COPY, has match data only: the stream is not at fault.
    let less = (lengths.0 == MATCH_LEN) != (lengths.1 == MATCH_LEN);
    if less || !from.image.complete || !to.image.complete || lengths.1 == 0 {
        return None;
    }
    let mut different = different(from, to)?;
    if lengths.0 == lengths.1 && different.is_empty() {
        // Two VFs without guest drivers easily have the same match data.
        return (related || lengths.1 > MATCH_LEN).then(|| {
            FindingDraft {
                code: "hisi_acc/images-equal",
                step: "compare",
                text: format!("What arrived is what {name} has saved, all {} bytes.", lengths.1),
                check: "nothing",
            }
            .silent(FindingSeverity::Info)
        });
    }
    if lengths.0 != lengths.1 && whole {
        different.push(format!("length ({} there, {} here)", lengths.0, lengths.1));
    }
    (related && !different.is_empty()).then(|| {
        FindingDraft {
            code: "hisi_acc/images-differ",
            step: "compare",
            text: format!(
                "What arrived is not what {name} has saved, from which the same process had read: {}.",
                different.join(", ")
            ),
            check: "what is between the two: the stream was changed or cut, or comes from elsewhere",
        }
        .silent(FindingSeverity::Warning)
    })
}

/// Returns the members that were transferred and differ; `None` if the layout does not allow to tell.
fn different(from: &MigfImage, to: &MigfImage) -> Option<Vec<String>> {
    let lengths = (from.total_length(), to.total_length());
    let begins = from.image.place("vf_data.acc_magic")?.offset;
    let mut different = Vec::new();
    for field in from.image.layout.fields.iter().filter(|field| field.path.starts_with("vf_data.")) {
        // Members that were not transferred are not compared. Nor is the state after PRE_COPY: the driver learns only
        // after it has sent the match data that the guest has no driver, so that only its own copy says so. The layout
        // comes from a recording: it need not make sense.
        let Some(offset) = field.offset.checked_sub(begins) else { continue };
        let end = u64::from(offset).saturating_add(u64::from(field.size).saturating_mul(field.count.into()));
        let late = lengths.0 == MATCH_LEN && field.path == "vf_data.vf_qm_state";
        let anew = to.rewritten() && matches!(field.path.as_str(), "vf_data.eqe_dma" | "vf_data.aeqe_dma");
        if end > lengths.0.min(lengths.1) || late || anew {
            continue;
        }
        let (was, is) = (from.image.elements(&field.path), to.image.elements(&field.path));
        if was != is {
            let member = field.path.trim_start_matches("vf_data.");
            let show = |values: &[u64]| match (field.secret, values) {
                (true, [0]) => "null".to_owned(),
                (true, _) => "redacted".to_owned(),
                (false, values) => {
                    values.iter().map(|value| format!("{value:#x}")).collect::<Vec<_>>().join(" ")
                },
            };
            different.push(format!("{member} ({} there, {} here)", show(&was), show(&is)));
        }
    }
    Some(different)
}
