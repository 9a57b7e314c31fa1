//! Error numbers as the steps' records name them.

pub use vfio_uapi::errno::number;

/// The name of an errno; one that has no name here keeps its number: `E#134`.
pub fn name(number: i32) -> String {
    vfio_uapi::errno::name(number).map_or_else(|| format!("E#{number}"), str::to_owned)
}
