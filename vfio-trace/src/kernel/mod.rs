//! What this kernel offers: symbols, BTF, modules, capabilities.
