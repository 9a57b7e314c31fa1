//! Format of the data on the data fd: `struct acc_vf_data` (drivers/vfio/pci/hisilicon/hisi_acc_vfio_pci.h).

use crate::event::{DriverImage, StreamHash};

/// `ACC_DEV_MAGIC_V1`: magic of streams without version numbers.
pub(super) const MAGIC_V1: u64 = 0xcdcd_cdcd_feed_aacc;
/// `ACC_DEV_MAGIC_V2`: magic of streams with version numbers (6.16 and later, and stable kernels).
pub(super) const MAGIC_V2: u64 = 0xaacc_feed_deca_dede;
/// `ACC_DRV_MAJOR_VER`: the major version in streams with version numbers.
pub(super) const MAJOR: u64 = 1;

/// `sizeof(struct acc_vf_data)`, in bytes.
pub(super) const DATA_LEN: u64 = 176;
/// `QM_MATCH_SIZE`: number of bytes at the beginning that tell whether two devices fit.
pub(super) const MATCH_LEN: u64 = 40;
/// `offsetofend(struct acc_vf_data, padding)`: number of bytes that debugfs prints; the addresses follow them.
pub(super) const DUMP_LEN: usize = 144;

/// Name of the first member, at which the structure begins.
const FIRST: &str = "vf_data.acc_magic";

/// Image of a migration file (`struct hisi_acc_vf_migration_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MigfImage {
    pub(super) image: DriverImage,
    /// Time at which the image was made (CLOCK_MONOTONIC, ns).
    pub(super) at_ns: u64,
}

impl MigfImage {
    pub(super) const fn new(image: DriverImage, at_ns: u64) -> Self {
        Self { image, at_ns }
    }

    /// Returns the value of a member of `acc_vf_data`; `None` if the image does not have it.
    pub(super) fn data(&self, member: &str) -> Option<u64> {
        self.image.value(&format!("vf_data.{member}"))
    }

    /// Returns `total_length`: the number of bytes of `acc_vf_data` that are valid; 0 if the image does not have it.
    pub(super) fn total_length(&self) -> u64 {
        self.image.value("total_length").unwrap_or(0)
    }

    /// Returns `disabled`: true if the driver has ended the file.
    pub(super) fn disabled(&self) -> bool {
        self.image.value("disabled").unwrap_or(0) != 0
    }

    /// Returns the bytes of `acc_vf_data` that debugfs prints.
    pub(super) fn dump(&self) -> Option<&[u8]> {
        self.image.bytes_from(FIRST, DUMP_LEN)
    }

    /// Returns true if the driver has changed its copy of the data that arrived: for format version 1
    /// `vf_qm_version_check()` computes two addresses anew.
    pub(super) fn rewritten(&self) -> bool {
        self.image.layout.name == "resuming_migf"
            && self.total_length() > MATCH_LEN
            && self.data("acc_magic") == Some(MAGIC_V1)
    }

    /// Returns the hash of all data that has crossed the data fd. `None` if the structure does not hold all of it, if
    /// the driver has changed its copy, or if it is match data alone: it says nothing about the guest, and is the same
    /// for each attempt.
    pub(super) fn stream(&self) -> Option<StreamHash> {
        if self.rewritten() {
            return None;
        }
        let length = self.total_length();
        let whole = self.image.complete && !self.disabled() && length > MATCH_LEN && length <= DATA_LEN;
        let length = usize::try_from(length).ok().filter(|_| whole)?;
        self.image.bytes_from(FIRST, length).map(StreamHash::of)
    }

    /// Returns the names of the addresses (of four) that are zero.
    pub(super) fn null_addresses(&self) -> Vec<&'static str> {
        let is_null = |name: &&str| self.data(name) == Some(0);
        ["eqe_dma", "aeqe_dma", "sqc_dma", "cqc_dma"].into_iter().filter(is_null).collect()
    }
}
