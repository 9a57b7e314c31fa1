//! Compiler's suffixes of symbols and their meaning.

/// Change that the compiler made to a function, told by its symbol's suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolVariant {
    /// The function as written.
    Exact,
    /// `.llvm.N`: renamed by clang's ThinLTO, the same function.
    Renamed,
    /// `.isra.N`, `.constprop.N`: a whole function, but its arguments are not those of the source.
    OtherArguments,
    /// `.part.N`, `.cold`: a piece of the function, not its start.
    Piece,
    /// Another suffix, for instance of a static variable.
    Other,
}

/// Splits a symbol into its name without the compiler's suffix and the meaning of the suffix.
pub fn split_variant(symbol: &str) -> (&str, SymbolVariant) {
    let Some((base, suffix)) = symbol.split_once('.').filter(|(base, _)| !base.is_empty()) else {
        return (symbol, SymbolVariant::Exact);
    };
    let has = |wanted: &str| suffix.split('.').any(|part| part == wanted);
    let variant = if has("cold") || has("part") {
        SymbolVariant::Piece
    } else if has("isra") || has("constprop") {
        SymbolVariant::OtherArguments
    } else if has("llvm") {
        SymbolVariant::Renamed
    } else {
        SymbolVariant::Other
    };
    (base, variant)
}
