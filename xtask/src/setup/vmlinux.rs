//! Extracts the uncompressed ELF kernel from a bzImage.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Offset in `struct setup_header` (Documentation/arch/x86/boot.rst, protocol 2.08+).
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

fn u32_at(image: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// Returns the compressed kernel inside a bzImage, without the length word that the build appends.
fn payload(image: &[u8]) -> Result<&[u8]> {
    ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "not a bzImage: no HdrS magic");
    let sectors = match image.get(SETUP_SECTS) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    let start = u32_at(image, PAYLOAD_OFFSET).context("bzImage is too short")? + (sectors + 1) * 512;
    let length = u32_at(image, PAYLOAD_LENGTH).context("bzImage is too short")?;
    image
        .get(start..start + length.saturating_sub(4))
        .filter(|payload| payload.len() > 8)
        .context("bzImage's payload lies outside of the file")
}

/// Writes the ELF kernel of `bzimage` to `elf`.
pub(crate) fn extract(bzimage: &Path, elf: &Path) -> Result<()> {
    let image = fs::read(bzimage).with_context(|| format!("cannot read {}", bzimage.display()))?;
    let payload = payload(&image).with_context(|| format!("cannot unpack {}", bzimage.display()))?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        [a, b, c, d, ..] => bail!("unknown kernel compression (starts with {a:02x} {b:02x} {c:02x} {d:02x})"),
        _ => bail!("the compressed kernel is empty"),
    };
    let output = fs::File::create(elf).with_context(|| format!("cannot create {}", elf.display()))?;
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    child
        .stdin
        .take()
        .context("no pipe")?
        .write_all(payload)
        .with_context(|| format!("{program} stopped early"))?;
    ensure!(child.wait()?.success(), "{program} could not decompress {}", bzimage.display());
    let head = fs::read(elf)?;
    ensure!(head.starts_with(b"\x7fELF"), "{} holds no ELF kernel", bzimage.display());
    Ok(())
}
