//! Limits of the part of a recording that is kept: the rest is left out and counted, and the document says so.

/// Limits of one recording, for its [`HostHistory`](super::HostHistory). Each is far beyond the numbers of real hosts;
/// together they bound memory for any recording.
#[derive(Clone, Copy, Debug)]
pub struct ModelLimits {
    /// Number of devices. Events of further devices are left out.
    pub devices: usize,
    /// Number of findings of plug-ins.
    pub findings: usize,
    /// Number of driver steps of one device.
    pub steps: usize,
    /// Number of driver steps of all devices.
    pub all_steps: usize,
    /// Number of marks of one device; marks that end the device's activity are kept beyond it.
    pub marks: usize,
    /// Number of answers to VFIO_DEVICE_FEATURE_MIG_DATA_SIZE of one device.
    pub sizes: usize,
    /// Number of sessions of all devices. Verdicts and downtimes are made from sessions, arcs, requests, states, marks
    /// and dirty logs without gaps: once one of these lists is full, no further event is taken in.
    pub sessions: usize,
    /// Number of arcs of all devices.
    pub arcs: usize,
    /// Number of requests of all devices.
    pub requests: usize,
    /// Number of states of all devices.
    pub states: usize,
    /// Number of marks of all devices.
    pub all_marks: usize,
    /// Number of dirty logs of all devices.
    pub dirty_logs: usize,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            devices: 1 << 16,
            findings: 100_000,
            steps: 100_000,
            all_steps: 2_000_000,
            marks: 10_000,
            sizes: 10_000,
            // Room for 100 000 migrations from one device to another on one host.
            sessions: 250_000,
            arcs: 2_000_000,
            requests: 2_000_000,
            states: 4_000_000,
            all_marks: 2_000_000,
            dirty_logs: 250_000,
        }
    }
}
