//! Parses the evidence for tests to compare with: the debug messages of mtty and the events of QEMU. No I/O.

mod mtty;
mod qmp;

pub use mtty::{At, MttyArc, MttyDevice, MttyEvent, MttyLog, MttyRead, MttyWrite};
pub use qmp::{QmpEvent, QmpLog};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::MigState as S;

    const SOURCE: &str = "11111111-1111-1111-1111-111111111111";
    const DESTINATION: &str = "22222222-2222-2222-2222-222222222222";

    /// Returns the evidence of a real `lab-migrate --evidence` on Debian's 6.12.117 with QEMU 10.0.2.
    fn real() -> (MttyLog, QmpLog) {
        let qmp = QmpLog::parse(include_str!("testdata/ok-qmp.ndjson")).unwrap();
        (MttyLog::parse(include_str!("testdata/ok-dmesg.txt")), qmp)
    }

    #[test]
    fn a_real_source_in_both_logs() {
        let (mtty, qmp) = real();
        assert_eq!(mtty.lost, 0);
        let device = mtty.device(SOURCE);
        // Starting the guest sets RUNNING_P2P and RUNNING before any QMP client can be connected.
        assert_eq!(
            device.targets(),
            [S::RUNNING_P2P, S::RUNNING, S::PRE_COPY, S::PRE_COPY_P2P, S::STOP_COPY, S::STOP]
        );
        assert_eq!(device.targets()[2..], qmp.device_states(SOURCE));
        assert_eq!(device.arcs().len(), 6);
        let reads: Vec<_> = device.reads().into_iter().map(|read| (read.asked, read.result)).collect();
        assert_eq!(reads, [(96, Ok(24)), (96, Ok(72)), (96, Ok(0))]);
    }

    #[test]
    fn a_real_destination_in_both_logs() {
        let (mtty, qmp) = real();
        let device = mtty.device(DESTINATION);
        assert_eq!(device.targets(), qmp.device_states(DESTINATION));
        // The last two come from QEMU's quitting, which stops the guest.
        assert_eq!(device.targets(), [S::RESUMING, S::RUNNING_P2P, S::RUNNING, S::RUNNING_P2P, S::STOP]);
        assert_eq!(
            device.arc_pairs()[..3],
            [(S::RUNNING, S::RUNNING_P2P), (S::RUNNING_P2P, S::STOP), (S::STOP, S::RESUMING)]
        );
        assert_eq!((device.bytes_written(), device.writes().len()), (96, 2));
        assert_eq!(qmp.statuses("vm-2"), ["setup", "active", "completed"]);
    }
}
