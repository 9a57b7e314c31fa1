//! Check that a function that BTF lists can be probed: the compiler may have inlined or renamed it.

use super::kallsyms::{Kallsyms, KernelSymbol, SymbolVariant};

/// Result of looking up a function of a module, or of the kernel itself, in /proc/kallsyms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FunctionPresence {
    /// A function that is there, with the arguments of its source.
    Present(SymbolLocation),
    /// A function that is not there, with the reason.
    Absent(String),
    /// There are no symbols to look at.
    Unknown,
}

/// Symbol and address of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SymbolLocation {
    /// Name of its symbol, to which clang may have added a suffix.
    pub(super) symbol: String,
    /// Number of functions of this name in this module.
    pub(super) copies: usize,
    /// True if no other function of the kernel or of any module has this name.
    pub(super) unique: bool,
    /// Address, if there is one copy and addresses are not hidden.
    pub(super) address: Option<u64>,
}

pub(super) fn presence(kallsyms: Option<&Kallsyms>, name: &str, module: Option<&str>) -> FunctionPresence {
    let Some(kallsyms) = kallsyms else { return FunctionPresence::Unknown };
    let all: Vec<(KernelSymbol, SymbolVariant)> =
        kallsyms.variants(name, None).into_iter().filter(|(symbol, _)| symbol.is_text()).collect();
    let here = |wanted: SymbolVariant| {
        all.iter()
            .filter(move |(symbol, variant)| *variant == wanted && symbol.module.as_deref() == module)
            .map(|(symbol, _)| symbol)
    };
    let mut found = here(SymbolVariant::Exact).chain(here(SymbolVariant::Renamed));
    let Some(first) = found.next() else {
        let changed = here(SymbolVariant::OtherArguments).chain(here(SymbolVariant::Piece)).next();
        return FunctionPresence::Absent(match changed {
            Some(symbol) => format!("the compiler made {} of it, whose arguments differ", symbol.name),
            None => "it has no symbol: inlined, or not compiled in".to_owned(),
        });
    };
    let copies = 1 + found.filter(|symbol| symbol.name == first.name).count();
    let everywhere = all.iter().filter(|(symbol, _)| symbol.name == first.name).count();
    FunctionPresence::Present(SymbolLocation {
        symbol: first.name.clone(),
        copies,
        unique: everywhere == 1,
        address: (copies == 1 && first.addr != 0).then_some(first.addr),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kallsyms::SymbolSelection;

    #[test]
    fn only_whole_functions_with_their_own_arguments_count() {
        let text = "\
ffffffff81000000 t read
ffffffffc0000000 t read\t[m]
ffffffffc0000010 t twice\t[m]
ffffffffc0000020 t twice\t[m]
ffffffffc0000030 t gone.isra.0\t[m]
ffffffffc0000040 t thin.llvm.77\t[m]
ffffffffc0000050 d data\t[m]
";
        let kallsyms = Kallsyms::parse(
            text.as_bytes(),
            &SymbolSelection { modules: &["m"], names: &["read"], addresses: &[] },
        )
        .unwrap();
        let at = |name, module| presence(Some(&kallsyms), name, module);
        let spot = |symbol: &str, copies, unique, address| {
            FunctionPresence::Present(SymbolLocation { symbol: symbol.to_owned(), copies, unique, address })
        };
        assert_eq!(at("read", Some("m")), spot("read", 1, false, Some(0xffff_ffff_c000_0000)));
        assert_eq!(at("read", None), spot("read", 1, false, Some(0xffff_ffff_8100_0000)));
        assert_eq!(at("twice", Some("m")), spot("twice", 2, false, None));
        assert_eq!(at("thin", Some("m")), spot("thin.llvm.77", 1, true, Some(0xffff_ffff_c000_0040)));
        assert!(
            matches!(at("gone", Some("m")), FunctionPresence::Absent(why) if why.contains("gone.isra.0"))
        );
        assert!(matches!(at("data", Some("m")), FunctionPresence::Absent(_)));
        assert_eq!(presence(None, "read", None), FunctionPresence::Unknown);
    }
}
