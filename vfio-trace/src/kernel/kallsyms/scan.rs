//! One pass over /proc/kallsyms.

use std::io;

use memchr::{memchr, memrchr};

use super::{Kallsyms, KallsymsError, SymbolEntry};

/// Size of the read buffer in bytes, far beyond the longest line: KSYM_NAME_LEN is 512, module names have at most 56
/// characters.
const CHUNK: usize = 64 << 10;

/// Choice of the symbols to keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct SymbolSelection<'a> {
    /// All symbols of these modules.
    pub modules: &'a [&'a str],
    /// Symbols of these names and their variants, wherever they are.
    pub names: &'a [&'a str],
    /// Symbols that start at these addresses.
    pub addresses: &'a [u64],
}

struct KallsymsScan<'a> {
    modules: &'a [&'a str],
    /// Sorted.
    names: Vec<&'a [u8]>,
    /// Bit `n` of entry `b` is set if some name starts with `b` and its second byte is `n` modulo 64. Rules out nearly
    /// all lines.
    starts: [u64; 256],
    /// Sorted.
    addresses: Vec<u64>,
    found: Kallsyms,
}

pub(super) fn scan(mut reader: impl io::Read, want: &SymbolSelection<'_>) -> Result<Kallsyms, KallsymsError> {
    let mut scan = KallsymsScan::new(want);
    let mut buffer = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        if room.is_empty() {
            return Err(not_a_symbol(&buffer));
        }
        let read = match reader.read(room) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if read == 0 {
            scan.line(buffer.get(..filled).unwrap_or_default())?;
            return Ok(scan.found);
        }
        filled += read;
        let mut at = 0;
        while let Some(rest) = buffer.get(at..filled)
            && let Some(len) = memchr(b'\n', rest)
        {
            scan.line(rest.get(..len).unwrap_or_default())?;
            at += len + 1;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}

fn not_a_symbol(line: &[u8]) -> KallsymsError {
    let start = line.get(..line.len().min(80)).unwrap_or_default();
    KallsymsError::Line { line: String::from_utf8_lossy(start).into_owned() }
}

impl<'a> KallsymsScan<'a> {
    fn new(want: &SymbolSelection<'a>) -> Self {
        let mut names: Vec<&[u8]> = want.names.iter().map(|name| name.as_bytes()).collect();
        names.sort_unstable();
        let mut starts = [0; 256];
        for &name in &names {
            if let Some(entry) = starts.get_mut(usize::from(name.first().copied().unwrap_or_default())) {
                *entry |= second(name);
            }
        }
        let mut addresses = want.addresses.to_vec();
        addresses.sort_unstable();
        Self { modules: want.modules, names, starts, addresses, found: Kallsyms::default() }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), KallsymsError> {
        if line.is_empty() {
            return Ok(());
        }
        // "ffffffffc0a01234 t mtty_save_read\t[mtty]"; the address has 16 digits on 64-bit kernels.
        let address_len = if line.get(16) == Some(&b' ') {
            16
        } else {
            memchr(b' ', line).ok_or_else(|| not_a_symbol(line))?
        };
        let (address, rest) = line.split_at_checked(address_len).ok_or_else(|| not_a_symbol(line))?;
        let Some((&[_, kind, b' '], rest)) = rest.split_first_chunk::<3>() else {
            return Err(not_a_symbol(line));
        };
        self.found.total += 1;
        if !self.found.visible && address.iter().any(|&byte| byte != b'0') {
            self.found.visible = true;
        }
        let (name, module) = match rest.last() {
            Some(b']') => split_module(rest),
            _ => (rest, None),
        };
        let kept_module =
            module.is_some_and(|module| self.modules.iter().any(|kept| kept.as_bytes() == module));
        if !kept_module && !self.is_wanted(name) && self.addresses.is_empty() {
            // The address column is checked where it is used; a line that is not wanted need not be parsed.
            return Ok(());
        }
        let addr = str::from_utf8(address).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let addr = addr.ok_or_else(|| not_a_symbol(line))?;
        // arm64 marks code and data with $x and $d symbols, which lie on top of functions.
        let mark = name.first() == Some(&b'$');
        if mark || !(kept_module || self.is_wanted(name) || self.addresses.binary_search(&addr).is_ok()) {
            return Ok(());
        }
        self.keep(addr, kind, name, module);
        Ok(())
    }

    fn is_wanted(&self, name: &[u8]) -> bool {
        let first = usize::from(name.first().copied().unwrap_or_default());
        if self.starts.get(first).is_none_or(|entry| entry & second(name) == 0) {
            return false;
        }
        let base = name.split(|&byte| byte == b'.').next().unwrap_or(name);
        self.names.binary_search(&base).is_ok()
    }

    fn keep(&mut self, addr: u64, kind: u8, name: &[u8], module: Option<&[u8]>) {
        // Identifiers are ASCII; anything else cannot be asked for by name or attached to.
        let Ok(name) = str::from_utf8(name) else { return };
        let found = &mut self.found;
        let module = match module.and_then(|module| str::from_utf8(module).ok()) {
            None => 0,
            Some(module) => {
                let known = found.modules.iter().position(|known| known == module);
                let index = known.unwrap_or(found.modules.len());
                if known.is_none() {
                    found.modules.push(module.to_owned());
                }
                index + 1
            },
        };
        let start = found.names.len() as u32;
        let (Ok(module), Some(end)) = (u16::try_from(module), start.checked_add(name.len() as u32)) else {
            return;
        };
        found.names.push_str(name);
        found.entries.push(SymbolEntry { addr, name: (start, end), module, kind });
    }
}

fn second(name: &[u8]) -> u64 {
    1 << (name.get(1).copied().unwrap_or_default() % 64)
}

/// Splits "name\t[module]" in two; returns the name alone if there is no tab.
fn split_module(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(tab) = memrchr(b'\t', rest) else { return (rest, None) };
    let (name, module) = rest.split_at(tab);
    (name, module.strip_prefix(b"\t[").and_then(|module| module.strip_suffix(b"]")))
}
