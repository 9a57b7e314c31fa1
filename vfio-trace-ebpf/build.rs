//! Rebuilds the programs when bpf-linker changes: cargo does not know that the linker is an input.

use which::which;

fn main() {
    // A missing linker is reported by the link step, with a better message than this script could give.
    if let Ok(linker) = which("bpf-linker") {
        println!("cargo:rerun-if-changed={}", linker.display());
    }
}
