//! Reads the `.BTF` section and the build id of an ELF file: a `vmlinux`, or a module's `.ko`.
//!
//! Only 64-bit files of this machine's byte order, as the running kernel's are. A vmlinux with debug information has a
//! gigabyte, so pieces are read, and each length in the file is compared with a limit before it is used.

use std::io;

use object::{
    NativeEndian,
    elf::{
        ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, ELFMAG, FileHeader64, NT_GNU_BUILD_ID, SHF_COMPRESSED,
        SHN_XINDEX, SHT_NOBITS, SectionHeader64,
    },
    pod,
    read::elf::NoteIterator,
};
use thiserror::Error;

/// First bytes of every ELF file.
pub const ELF_MAGIC: [u8; 4] = ELFMAG;

const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { ELFDATA2LSB } else { ELFDATA2MSB };
const MAX_SECTIONS: u64 = 1 << 16;
const MAX_NAMES: u64 = 16 << 20;
const MAX_NOTES: u64 = 64 << 10;
const MAX_BTF: u64 = 256 << 20;

type ElfHeader = FileHeader64<NativeEndian>;
type ElfSection = SectionHeader64<NativeEndian>;

/// Error of reading an ELF file.
#[derive(Debug, Error)]
pub enum ElfError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not an ELF file of this machine.
    #[error("it is no 64-bit ELF file of this machine's byte order")]
    NotOurs,
    /// It refers to places outside of itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It has no BTF.
    #[error("it has no .BTF section: it was built without BTF, or stripped of it")]
    NoBtf,
    /// The section is compressed.
    #[error("its .BTF section is compressed; unpack it: objcopy --decompress-debug-sections")]
    Compressed,
    /// The module's BTF stands on a base of its own, which only the kernel can relate to its own BTF, when it loads the
    /// module.
    #[error(
        "its .BTF stands on a .BTF.base of its own and only the kernel can bring it together with vmlinux's; give \
         the file that /sys/kernel/btf shows where the module is loaded"
    )]
    OwnBase,
}

/// BTF and build id of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfBtf {
    /// Raw BTF.
    pub btf: Vec<u8>,
    /// The build id, if it has one.
    pub build_id: Option<Vec<u8>>,
}

/// Reads BTF and build id of an ELF file through `read`, which returns exactly that many bytes from an offset.
///
/// # Errors
///
/// [`ElfError`] if it is another kind of file, damaged, or has no BTF that can be used.
pub fn btf_of_elf(read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> Result<ElfBtf, ElfError> {
    let piece = |offset: u64, len: u64, most: u64, what: &'static str| {
        if len > most || offset.checked_add(len).is_none() {
            return Err(ElfError::Damaged(what));
        }
        read(offset, len as usize).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ElfError::Damaged(what),
            _ => ElfError::Read(error),
        })
    };
    let bytes = piece(0, size_of::<ElfHeader>() as u64, u64::MAX, "it is shorter than its header")?;
    let endian = NativeEndian::default();
    let Ok((header, _)) = pod::from_bytes::<ElfHeader>(&bytes) else { return Err(ElfError::NotOurs) };
    let ident = &header.e_ident;
    if (ident.magic, ident.class, ident.data) != (ELF_MAGIC, ELFCLASS64, BYTE_ORDER) {
        return Err(ElfError::NotOurs);
    }
    let each = size_of::<ElfSection>() as u64;
    if header.e_shoff.get(endian) == 0 {
        return Err(ElfError::NoBtf);
    }
    if u64::from(header.e_shentsize.get(endian)) != each {
        return Err(ElfError::Damaged("its section headers have another size"));
    }
    let table = |count: u64| {
        let lost = "its section headers lie beyond its end";
        let bytes = piece(header.e_shoff.get(endian), count.saturating_mul(each), MAX_SECTIONS * each, lost)?;
        let sections = bytes.chunks_exact(each as usize);
        let sections = sections.filter_map(|one| pod::from_bytes::<ElfSection>(one).ok());
        Ok::<Vec<ElfSection>, ElfError>(sections.map(|(section, _)| *section).collect())
    };
    let section = |section: &ElfSection, most, what| {
        piece(section.sh_offset.get(endian), section.sh_size.get(endian), most, what)
    };
    let first = *table(1)?.first().ok_or(ElfError::NoBtf)?;
    let count = match header.e_shnum.get(endian) {
        0 => first.sh_size.get(endian),
        count => count.into(),
    };
    let names = match header.e_shstrndx.get(endian) {
        SHN_XINDEX => first.sh_link.get(endian),
        names => names.into(),
    };
    let sections = table(count)?;
    let names = sections.get(names as usize).ok_or(ElfError::Damaged("it has no section names"))?;
    let names = section(names, MAX_NAMES, "its section names lie beyond its end")?;
    let find = |wanted: &[u8]| {
        sections.iter().find(|section| {
            let name = names.get(section.sh_name.get(endian) as usize..).unwrap_or_default();
            name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0))
        })
    };
    let found =
        find(b".BTF").filter(|section| section.sh_type.get(endian) != SHT_NOBITS).ok_or(ElfError::NoBtf)?;
    if found.sh_flags.get(endian) & u64::from(SHF_COMPRESSED) != 0 {
        return Err(ElfError::Compressed);
    }
    if find(b".BTF.base").is_some() {
        return Err(ElfError::OwnBase);
    }
    let btf = section(found, MAX_BTF, "its .BTF section lies beyond its end")?;
    // A module has a section of its own for it; the linker script puts all notes of a kernel into one.
    let build_id = find(b".note.gnu.build-id")
        .or_else(|| find(b".notes"))
        .filter(|section| section.sh_type.get(endian) != SHT_NOBITS)
        .and_then(|notes| section(notes, MAX_NOTES, "").ok())
        .and_then(|notes| build_id(&notes).map(<[u8]>::to_vec));
    Ok(ElfBtf { btf, build_id })
}

/// Returns the GNU build id among ELF notes: `/sys/kernel/notes`, `/sys/module/M/notes/.note.gnu.build-id`.
pub fn build_id(notes: &[u8]) -> Option<&[u8]> {
    let endian = NativeEndian::default();
    let mut notes = NoteIterator::<ElfHeader>::new(endian, 4u32.into(), notes).ok()?;
    std::iter::from_fn(|| notes.next().ok().flatten())
        .find(|note| note.n_type(endian) == NT_GNU_BUILD_ID && note.name() == b"GNU")
        .map(|note| note.desc())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes a note of this type.
    pub(crate) fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32 + 1, content.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        for part in [[name.as_bytes(), &[0]].concat().as_slice(), content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// Makes an ELF file with these sections: name, flags, content.
    pub(crate) fn elf(sections: &[(&str, u64, &[u8])]) -> Vec<u8> {
        let mut names = vec![0];
        let mut body = vec![0; size_of::<ElfHeader>()];
        let mut table = vec![[0_u64; 8]];
        let all = [sections, &[(".shstrtab", 0, &[])]].concat();
        for (name, flags, content) in &all {
            let name_at = names.len() as u64;
            names.extend(name.bytes().chain([0]));
            let content = if *name == ".shstrtab" { names.as_slice() } else { content };
            let kind = 1_u64 << 32;
            let (offset, size) = (body.len() as u64, content.len() as u64);
            table.push([name_at | kind, *flags, 0, offset, size, 0, 0, 0]);
            body.extend(content);
        }
        let start = body.len() as u64;
        for section in &table {
            body.extend(section.iter().flat_map(|word| word.to_ne_bytes()));
        }
        body[..6].copy_from_slice(&[ELF_MAGIC.as_slice(), &[ELFCLASS64, BYTE_ORDER]].concat());
        body[40..48].copy_from_slice(&start.to_ne_bytes());
        for (at, value) in [(58, 64), (60, table.len()), (62, table.len() - 1)] {
            body[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        }
        body
    }

    fn parse(bytes: &[u8]) -> Result<ElfBtf, ElfError> {
        btf_of_elf(|offset, len| {
            let rest = bytes.get(offset as usize..).and_then(|rest| rest.get(..len));
            rest.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    #[test]
    fn btf_and_build_id_are_found() {
        let notes = [note("Linux", 1, b"x"), note("GNU", 3, &[1, 2, 3])].concat();
        let module = elf(&[(".text", 0, b"code"), (".BTF_ids", 0, b"no"), (".BTF", 0, b"types")]);
        assert_eq!(parse(&module).unwrap(), ElfBtf { btf: b"types".to_vec(), build_id: None });
        let vmlinux = elf(&[(".notes", 0, &notes), (".BTF", 0, b"types")]);
        assert_eq!(parse(&vmlinux).unwrap().build_id.as_deref(), Some([1, 2, 3].as_slice()));
        assert_eq!(build_id(&note("GNU", 1, b"abi")), None);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let why = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        assert!(why(&elf(&[(".text", 0, b"code")])).contains("no .BTF section"));
        assert!(why(&elf(&[(".BTF", SHF_COMPRESSED.into(), b"x")])).contains("compressed"));
        assert!(why(&elf(&[(".BTF", 0, b"x"), (".BTF.base", 0, b"x")])).contains("/sys/kernel/btf"));
        let mut other = elf(&[(".BTF", 0, b"x")]);
        other[4] = 1;
        assert!(why(&other).contains("64-bit"));
        assert!(why(b"\x7fELF").contains("damaged"));
        let mut far = elf(&[(".BTF", 0, b"x")]);
        far[40..48].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(why(&far).contains("damaged"));
    }

    proptest! {
        #[test]
        fn damage_is_survived(at in 0_usize..500, value: u8, cut in 0_usize..500) {
            let notes = note("GNU", 3, &[7; 20]);
            let mut bytes = elf(&[(".notes", 0, &notes), (".BTF", 0, b"types")]);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(8));
            let _result = parse(&bytes);
            let _id = build_id(&bytes);
        }
    }
}
