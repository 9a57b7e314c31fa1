//! What this kernel offers: symbols, BTF, modules, capabilities.

pub mod btf;
pub mod errno;
pub mod kallsyms;
pub mod modules;
pub mod source;
