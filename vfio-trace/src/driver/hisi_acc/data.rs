//! `struct acc_vf_data`: what crosses the data fd (drivers/vfio/pci/hisilicon/hisi_acc_vfio_pci.h).

use crate::event::{DriverImage, StreamHash};

/// `ACC_DEV_MAGIC_V1`: no version numbers in the stream.
pub(super) const MAGIC_V1: u64 = 0xcdcd_cdcd_feed_aacc;
/// `ACC_DEV_MAGIC_V2` (6.16 and later, and stable kernels).
pub(super) const MAGIC_V2: u64 = 0xaacc_feed_deca_dede;
/// `ACC_DRV_MAJOR_VER`.
pub(super) const MAJOR: u64 = 1;

/// `sizeof(struct acc_vf_data)`.
pub(super) const DATA_LEN: u64 = 176;
/// `QM_MATCH_SIZE`: the part that tells whether two devices fit.
pub(super) const MATCH_LEN: u64 = 40;
/// `offsetofend(struct acc_vf_data, padding)`: what debugfs prints; the addresses come behind it.
pub(super) const DUMP_LEN: usize = 144;

/// The first member, where the structure begins.
const FIRST: &str = "vf_data.acc_magic";

/// One image of a migration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MigfImage {
    pub(super) image: DriverImage,
    /// When it was made (CLOCK_MONOTONIC, ns).
    pub(super) at_ns: u64,
}

impl MigfImage {
    pub(super) const fn new(image: DriverImage, at_ns: u64) -> Self {
        Self { image, at_ns }
    }

    /// A member of `acc_vf_data`.
    pub(super) fn data(&self, member: &str) -> Option<u64> {
        self.image.value(&format!("vf_data.{member}"))
    }

    /// `total_length`: how much of it counts.
    pub(super) fn total_length(&self) -> u64 {
        self.image.value("total_length").unwrap_or(0)
    }

    /// `disabled`: the driver has ended it.
    pub(super) fn disabled(&self) -> bool {
        self.image.value("disabled").unwrap_or(0) != 0
    }

    /// The structure's bytes, as far as debugfs prints them.
    pub(super) fn dump(&self) -> Option<&[u8]> {
        self.image.bytes_from(FIRST, DUMP_LEN)
    }

    /// Whether the driver writes into its copy of what arrived: of version 1 `vf_qm_version_check()` makes two addresses anew.
    pub(super) fn rewritten(&self) -> bool {
        self.image.layout.name == "resuming_migf"
            && self.total_length() > MATCH_LEN
            && self.data("acc_magic") == Some(MAGIC_V1)
    }

    /// All that has crossed the data fd, once it is in the structure; not of a copy that may not be what crossed it.
    pub(super) fn stream(&self) -> Option<StreamHash> {
        if self.rewritten() {
            return None;
        }
        let length = self.total_length();
        let whole = self.image.complete && !self.disabled() && (1..=DATA_LEN).contains(&length);
        let length = usize::try_from(length).ok().filter(|_| whole)?;
        self.image.bytes_from(FIRST, length).map(StreamHash::of)
    }

    /// Which of the four addresses are zero.
    pub(super) fn null_addresses(&self) -> Vec<&'static str> {
        let is_null = |name: &&str| self.data(name) == Some(0);
        ["eqe_dma", "aeqe_dma", "sqc_dma", "cqc_dma"].into_iter().filter(is_null).collect()
    }
}
