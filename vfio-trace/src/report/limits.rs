//! How much of a recording is kept: what is more is left out, counted, and said.

/// Limits of one recording. Each is far beyond what hosts do; together they bound memory, whatever a recording has.
#[derive(Clone, Copy, Debug)]
pub struct ModelLimits {
    /// Devices. What happens on others is left out.
    pub devices: usize,
    /// What plug-ins have found.
    pub findings: usize,
    /// Steps of a device, and of all.
    pub steps: usize,
    /// Of all devices.
    pub all_steps: usize,
    /// Marks of a device; those that end what a device was doing are kept beyond it.
    pub marks: usize,
    /// Answers about the size, of a device.
    pub sizes: usize,
    /// Of all devices. What verdicts and downtimes are made from has no gaps: beyond one of these nothing at all is taken
    /// in any more.
    pub sessions: usize,
    /// Of all devices.
    pub arcs: usize,
    /// Of all devices.
    pub requests: usize,
    /// Of all devices.
    pub states: usize,
    /// Of all devices.
    pub all_marks: usize,
    /// Of all devices.
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
            // 100 000 migrations from one device to another on one host fit.
            sessions: 250_000,
            arcs: 2_000_000,
            requests: 2_000_000,
            states: 4_000_000,
            all_marks: 2_000_000,
            dirty_logs: 250_000,
        }
    }
}
