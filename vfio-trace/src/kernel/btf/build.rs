//! Builder of small BTF files for tests, split ones too.

use super::parse::Btf;

/// A BTF file in the making. Methods that add a type return its id.
pub(crate) struct BtfBuilder {
    next: u32,
    first_string: u32,
    types: Vec<u8>,
    strings: Vec<u8>,
    layout: Vec<u8>,
}

impl BtfBuilder {
    /// Starts the file of a vmlinux.
    pub(crate) fn new() -> Self {
        Self { next: 1, first_string: 0, types: Vec::new(), strings: vec![0], layout: Vec::new() }
    }

    /// Starts the file of a module on top of `base`.
    pub(crate) fn split(base: &Btf) -> Self {
        let next = base.own_ids().last().map_or(1, |id| id.0 + 1);
        Self { next, first_string: base.end_string(), strings: Vec::new(), ..Self::new() }
    }

    /// Adds a string and returns its offset.
    pub(crate) fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.first_string + self.strings.len() as u32;
        self.strings.extend(text.bytes().chain([0]));
        offset
    }

    /// Adds a type of any kind.
    pub(crate) fn raw(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        vlen: u32,
        word: u32,
        extra: &[u32],
    ) -> u32 {
        let info = (u32::from(flag) << 31) | (kind << 24) | vlen;
        let name = self.string(name);
        for value in [name, info, word].iter().chain(extra) {
            self.types.extend(value.to_ne_bytes());
        }
        self.next += 1;
        self.next - 1
    }

    /// Returns the id that the next type will get.
    pub(crate) const fn next_id(&self) -> u32 {
        self.next
    }

    pub(crate) fn int(&mut self, name: &str, size: u32, signed: bool) -> u32 {
        self.raw(name, 1, false, 0, size, &[(u32::from(signed) << 24) | (size * 8)])
    }

    pub(crate) fn ptr(&mut self, to: u32) -> u32 {
        self.raw("", 2, false, 0, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, len: u32) -> u32 {
        self.raw("", 3, false, 0, 0, &[of, of, len])
    }

    /// Adds a struct; members are (name, type, bit offset).
    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.record(4, false, name, size, members)
    }

    pub(crate) fn record(
        &mut self,
        kind: u32,
        flag: bool,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let extra: Vec<u32> =
            members.iter().flat_map(|&(name, id, offset)| [self.string(name), id, offset]).collect();
        self.raw(name, kind, flag, members.len() as u32, size, &extra)
    }

    pub(crate) fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let extra: Vec<u32> = values.iter().flat_map(|&(name, value)| [self.string(name), value]).collect();
        self.raw(name, 6, false, values.len() as u32, 4, &extra)
    }

    pub(crate) fn forward(&mut self, name: &str) -> u32 {
        self.raw(name, 7, false, 0, 0, &[])
    }

    pub(crate) fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.raw(name, 8, false, 0, to, &[])
    }

    pub(crate) fn constant(&mut self, to: u32) -> u32 {
        self.raw("", 10, false, 0, to, &[])
    }

    pub(crate) fn type_tag(&mut self, tag: &str, to: u32) -> u32 {
        self.raw(tag, 18, false, 0, to, &[])
    }

    pub(crate) fn proto(&mut self, returns: u32, params: &[u32]) -> u32 {
        let extra: Vec<u32> = params.iter().flat_map(|&id| [0, id]).collect();
        self.raw("", 13, false, params.len() as u32, returns, &extra)
    }

    pub(crate) fn func(&mut self, name: &str, proto: u32) -> u32 {
        self.raw(name, 12, false, 0, proto, &[])
    }

    /// Describes the sizes of kinds, as newer kernels do.
    pub(crate) fn layout(&mut self, kinds: &[(u8, u8)]) {
        self.layout = kinds.iter().flat_map(|&(one, each)| [one, each, 0, 0]).collect();
    }

    /// Returns the bytes of the file.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let header: u32 = if self.layout.is_empty() { 24 } else { 32 };
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut file = Vec::new();
        file.extend(0xeb9f_u16.to_ne_bytes());
        file.extend([1, 0]);
        for value in [header, 0, types, types, strings] {
            file.extend(value.to_ne_bytes());
        }
        if !self.layout.is_empty() {
            for value in [types + strings, self.layout.len() as u32] {
                file.extend(value.to_ne_bytes());
            }
        }
        file.extend(&self.types);
        file.extend(&self.strings);
        file.extend(&self.layout);
        file
    }
}
