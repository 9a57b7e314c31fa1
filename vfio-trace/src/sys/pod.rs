//! Permission for aya to copy our wire structures into and out of maps.

use vfio_trace_common::{
    capture::{Captures, StepSpec},
    layout::{DriverLayout, Layout, Search},
    stats::ProbeStats,
};

/// A plain structure as a map value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct MapValue<T: Copy>(pub T);

// SAFETY: `repr(C)`, `Copy`, only integers, no padding (sizes asserted in vfio-trace-common).
unsafe impl aya::Pod for MapValue<Layout> {}
// SAFETY: as above.
unsafe impl aya::Pod for MapValue<ProbeStats> {}
// SAFETY: as above.
unsafe impl aya::Pod for MapValue<DriverLayout> {}
// SAFETY: as above.
unsafe impl aya::Pod for MapValue<Search> {}
// SAFETY: as above.
unsafe impl aya::Pod for MapValue<Captures> {}
// SAFETY: as above.
unsafe impl aya::Pod for MapValue<StepSpec> {}
