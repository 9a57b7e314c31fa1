//! The kernel's symbols, from /proc/kallsyms: only those that were asked for.
//!
//! The file has 120 000 to 250 000 lines and the kernel makes it anew each time it is opened, so it is read once, in
//! large pieces, and lines that are not wanted cost a few comparisons.

mod scan;
mod variant;

use std::io;

use thiserror::Error;

pub use self::{
    scan::SymbolSelection,
    variant::{SymbolVariant, split_variant},
};
use super::source::{FileError, KernelFiles};

/// Reason why there are no symbols.
#[derive(Debug, Error)]
pub enum KallsymsError {
    /// The file cannot be opened. Kernels without CONFIG_KALLSYMS do not have it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Reading it failed half-way.
    #[error("reading /proc/kallsyms failed: {0}")]
    Read(#[from] io::Error),
    /// A line that is not a symbol.
    #[error("/proc/kallsyms has a line that is not a symbol: {line:?}; was it copied from something else?")]
    Line {
        /// Start of the line.
        line: String,
    },
}

/// A line of /proc/kallsyms (`s_show()` in kernel/kallsyms.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Address; 0 if addresses are hidden from this process.
    pub addr: u64,
    /// Name, with a suffix if the compiler added one.
    pub name: String,
    /// Name of the module, `None` for the kernel itself.
    pub module: Option<String>,
    /// Type as nm shows it: `t` local, `T` exported (modules) or global (kernel) function, …
    pub kind: char,
}

impl KernelSymbol {
    /// Returns true if it is a function (or a label in code): only these can be probed.
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, 't' | 'T' | 'w' | 'W')
    }
}

/// The symbols that a [`SymbolSelection`] selected, at one moment. Part of the kernel facts, read anew when modules
/// come and go; functions and pointers are looked up in it.
#[derive(Clone, Debug, Default)]
pub struct Kallsyms {
    names: String,
    modules: Vec<String>,
    /// Symbols by address, then in the file's order.
    entries: Vec<SymbolEntry>,
    /// Indexes of `entries`, by name.
    by_name: Vec<u32>,
    total: usize,
    visible: bool,
}

#[derive(Clone, Copy, Debug)]
struct SymbolEntry {
    addr: u64,
    name: (u32, u32),
    /// Index of `modules` plus one, 0 for the kernel itself.
    module: u16,
    kind: u8,
}

impl Kallsyms {
    /// Reads /proc/kallsyms once and keeps what `want` selects.
    ///
    /// # Errors
    ///
    /// [`KallsymsError`] if the file cannot be read or is something else.
    pub fn read(files: &KernelFiles, want: &SymbolSelection<'_>) -> Result<Self, KallsymsError> {
        Self::parse(files.open("/proc/kallsyms")?, want)
    }

    /// Reads text in the format of /proc/kallsyms and keeps what `want` selects.
    ///
    /// # Errors
    ///
    /// [`KallsymsError`] if reading fails or the text is something else.
    pub fn parse(reader: impl io::Read, want: &SymbolSelection<'_>) -> Result<Self, KallsymsError> {
        let mut found = scan::scan(reader, want)?;
        found.entries.sort_by_key(|entry| entry.addr);
        let mut by_name: Vec<u32> = (0..found.entries.len() as u32).collect();
        by_name.sort_by_key(|&index| found.entries.get(index as usize).map(|entry| found.name_of(entry)));
        found.by_name = by_name;
        Ok(found)
    }

    /// Reads /proc/kallsyms once to name pointers that lie outside the kept modules; in the order asked, `None` for
    /// addresses at which no symbol starts.
    ///
    /// # Errors
    ///
    /// [`KallsymsError`] if the file cannot be read or is something else.
    pub fn resolve_many(
        files: &KernelFiles,
        addresses: &[u64],
    ) -> Result<Vec<Option<KernelSymbol>>, KallsymsError> {
        let found = Self::read(files, &SymbolSelection { addresses, ..SymbolSelection::default() })?;
        Ok(addresses.iter().map(|&addr| found.resolve(addr)).collect())
    }

    /// Returns true if all addresses read as zero: then names can be probed, but pointers cannot be named.
    pub const fn hidden(&self) -> bool {
        !self.visible
    }

    /// Returns the number of symbols that the file had.
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Returns the number of symbols kept.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if no symbol was kept.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Finds the symbols of exactly this name, in one module or anywhere. `None` also finds the kernel's own.
    ///
    /// Complete for names that were asked for; of others only the kept modules' symbols are known.
    pub fn lookup(&self, name: &str, module: Option<&str>) -> Vec<KernelSymbol> {
        let start = self.by_name.partition_point(|&index| self.name_at(index) < name);
        let rest = self.by_name.get(start..).unwrap_or_default();
        let same = rest.iter().take_while(|&&index| self.name_at(index) == name);
        same.filter_map(|&index| self.symbol(index as usize))
            .filter(|symbol| module.is_none() || symbol.module.as_deref() == module)
            .collect()
    }

    /// Returns true if the kernel's image has a symbol of this name, and not only a module.
    pub fn is_in_kernel(&self, name: &str) -> bool {
        self.lookup(name, None).iter().any(|symbol| symbol.module.is_none())
    }

    /// Finds the symbols that the compiler made of a function: `name.isra.0`, `name.cold`, … and the name itself.
    pub fn variants(&self, name: &str, module: Option<&str>) -> Vec<(KernelSymbol, SymbolVariant)> {
        let start = self.by_name.partition_point(|&index| self.name_at(index) < name);
        let rest = self.by_name.get(start..).unwrap_or_default();
        let like = rest.iter().take_while(|&&index| self.name_at(index).starts_with(name));
        like.filter_map(|&index| self.symbol(index as usize))
            .filter_map(|symbol| {
                let (base, variant) = split_variant(&symbol.name);
                (base == name && (module.is_none() || symbol.module.as_deref() == module))
                    .then_some((symbol, variant))
            })
            .collect()
    }

    /// Finds the symbol that starts at an address; functions come before data that starts there too.
    pub fn resolve(&self, addr: u64) -> Option<KernelSymbol> {
        if addr == 0 {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.addr < addr);
        let mut same = (start..self.entries.len())
            .take_while(|&index| self.entries.get(index).is_some_and(|entry| entry.addr == addr))
            .filter_map(|index| self.symbol(index));
        let first = same.next()?;
        if first.is_text() {
            return Some(first);
        }
        Some(same.find(KernelSymbol::is_text).unwrap_or(first))
    }

    /// Returns all symbols that were kept, by address.
    pub fn iter(&self) -> impl Iterator<Item = KernelSymbol> {
        (0..self.entries.len()).filter_map(|index| self.symbol(index))
    }

    fn symbol(&self, index: usize) -> Option<KernelSymbol> {
        let entry = self.entries.get(index)?;
        let module =
            usize::from(entry.module).checked_sub(1).and_then(|module| self.modules.get(module)).cloned();
        Some(KernelSymbol {
            addr: entry.addr,
            name: self.name_of(entry).to_owned(),
            module,
            kind: entry.kind.into(),
        })
    }

    fn name_at(&self, index: u32) -> &str {
        self.entries.get(index as usize).map_or("", |entry| self.name_of(entry))
    }

    fn name_of(&self, entry: &SymbolEntry) -> &str {
        self.names.get(entry.name.0 as usize..entry.name.1 as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
