//! Leave for aya to copy our wire structures in and out of maps.

use vfio_trace_common::{
    capture::{Captures, StepSpec},
    layout::{DriverLayout, Layout, Search},
    stats::ProbeStats,
};

/// A plain structure as a map value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Plain<T: Copy>(pub T);

// SAFETY: `repr(C)`, `Copy`, only integers, no padding (sizes asserted in vfio-trace-common).
unsafe impl aya::Pod for Plain<Layout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<ProbeStats> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<DriverLayout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Search> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Captures> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<StepSpec> {}
