//! Loaded modules and their dependence on vfio, from /proc/modules.

use thiserror::Error;

use super::source::{FileError, KernelFiles};

/// Reason why there is no list of modules.
#[derive(Debug, Error)]
pub enum ModulesError {
    /// The file cannot be read. Kernels without loadable modules do not have it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has a line that is not a module.
    #[error("/proc/modules has a line that is not a module: {line:?}; was it copied from something else?")]
    Line {
        /// The line.
        line: String,
    },
}

/// State of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// A module that is loaded.
    Live,
    /// A module whose init function runs.
    Loading,
    /// A module whose exit function runs.
    Unloading,
}

/// A line of /proc/modules (`m_show()` in kernel/module/procfs.c, 6.1 to 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelModule {
    /// Name, with underscores.
    pub name: String,
    /// Size in bytes; smaller once the init function has run, because its memory is freed.
    pub size: u64,
    /// Number of references held; `None` where modules cannot be unloaded.
    pub references: Option<i64>,
    /// Names of modules that use this one directly.
    pub used_by: Vec<String>,
    /// State of the module.
    pub state: ModuleState,
    /// Address at which it is loaded; 0 if addresses are hidden.
    pub address: u64,
}

/// All loaded modules at one moment. Part of the kernel facts, read anew at each look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleList {
    /// Modules in the kernel's order, the last loaded first.
    pub list: Vec<KernelModule>,
}

impl ModuleList {
    /// Reads /proc/modules.
    ///
    /// # Errors
    ///
    /// [`ModulesError`] if it cannot be read or is something else.
    pub fn read(files: &KernelFiles) -> Result<Self, ModulesError> {
        Self::parse(&files.text("/proc/modules")?)
    }

    /// Parses the text of /proc/modules.
    ///
    /// # Errors
    ///
    /// [`ModulesError::Line`] at the first line that is not a module.
    pub fn parse(text: &str) -> Result<Self, ModulesError> {
        let list = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| parse_line(line).ok_or_else(|| ModulesError::Line { line: line.to_owned() }))
            .collect::<Result<_, _>>()?;
        Ok(Self { list })
    }

    /// Finds a module by name; `-` and `_` are the same, as for modprobe.
    pub fn get(&self, name: &str) -> Option<&KernelModule> {
        self.list.iter().find(|module| same_name(&module.name, name))
    }

    /// Returns true if a module's init function has not finished.
    pub fn is_loading(&self, name: &str) -> bool {
        self.get(name).is_some_and(|module| module.state == ModuleState::Loading)
    }

    /// Returns the modules that depend on `name`, directly or through others, in the kernel's order and without itself.
    pub fn users_of(&self, name: &str) -> Vec<&KernelModule> {
        let mut users: Vec<&str> = Vec::new();
        let mut todo = vec![name];
        while let Some(module) = todo.pop().and_then(|name| self.get(name)) {
            for user in &module.used_by {
                if !users.contains(&user.as_str()) {
                    users.push(user);
                    todo.push(user);
                }
            }
        }
        self.list
            .iter()
            .filter(|module| users.contains(&module.name.as_str()) && module.name != name)
            .collect()
    }
}

fn same_name(a: &str, b: &str) -> bool {
    let fold = |byte| if byte == b'-' { b'_' } else { byte };
    a.bytes().map(fold).eq(b.bytes().map(fold))
}

fn parse_line(line: &str) -> Option<KernelModule> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let size = words.next()?.parse().ok()?;
    let references = match words.next()? {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    let users = words.next()?;
    // "-", or names that each end in a comma; "[permanent]" is no name.
    let used_by = users
        .split(',')
        .filter(|user| !matches!(*user, "" | "-" | "[permanent]"))
        .map(str::to_owned)
        .collect();
    let state = match words.next()? {
        "Live" => ModuleState::Live,
        "Loading" => ModuleState::Loading,
        "Unloading" => ModuleState::Unloading,
        _ => return None,
    };
    let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    Some(KernelModule { name, size, references, used_by, state, address })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
mlx5_vfio_pci 49152 0 - Loading 0x0000000000000000 (OE+)
mtty 28672 2 [permanent], Live 0xffffffffc0b9d000 (OE)
vfio_pci 16384 0 - Live 0xffffffffc0b80000
vfio_pci_core 94208 2 mlx5_vfio_pci,vfio_pci, Live 0xffffffffc0b60000
vfio_iommu_type1 49152 1 - Live 0xffffffffc0b50000
vfio 69632 9 mtty,vfio_pci_core,vfio_iommu_type1, Live 0xffffffffc0b30000
tiny 4096 - - Unloading 0xffffffffc0000000
";

    #[test]
    fn lines_are_read() {
        let modules = ModuleList::parse(TEXT).unwrap();
        let vfio = modules.get("vfio").unwrap();
        assert_eq!((vfio.size, vfio.references, vfio.address), (69632, Some(9), 0xffff_ffff_c0b3_0000));
        assert_eq!(vfio.used_by, ["mtty", "vfio_pci_core", "vfio_iommu_type1"]);
        assert!(modules.get("mtty").unwrap().used_by.is_empty());
        assert_eq!(modules.get("mlx5-vfio-pci").unwrap().state, ModuleState::Loading);
        assert_eq!(modules.get("tiny").unwrap().references, None);
        assert!(matches!(ModuleList::parse("what is this"), Err(ModulesError::Line { .. })));
    }

    #[test]
    fn users_are_followed_through_other_modules() {
        let modules = ModuleList::parse(TEXT).unwrap();
        let users: Vec<_> = modules.users_of("vfio").iter().map(|module| module.name.as_str()).collect();
        assert_eq!(users, ["mlx5_vfio_pci", "mtty", "vfio_pci", "vfio_pci_core", "vfio_iommu_type1"]);
        assert!(modules.users_of("none").is_empty());
        let circle = ModuleList::parse("a 1 1 b, Live 0x0\nb 1 1 a, Live 0x0\n").unwrap();
        assert_eq!(circle.users_of("a").len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            if let Ok(modules) = ModuleList::parse(&text) {
                let _users = modules.users_of("vfio");
            }
        }
    }
}
