//! Kernel modules: which others each needs, and in which order to load them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use super::compressed;

/// The modules below a folder, uncompressed, each in a file `NAME.ko`.
#[derive(Debug, Clone)]
pub(super) struct Modules {
    folder: PathBuf,
}

impl Modules {
    /// Those that were kept in `folder`.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps, of an unpacked kernel, the modules `wanted` and those they need, in `folder`. A
    /// wanted module that is part of the kernel itself, or that this kernel has not, is left out:
    /// what is missing shows when it is asked for.
    ///
    /// # Errors
    /// When a module can't be read.
    pub(super) fn keep(unpacked: &Path, wanted: &[&str], folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let files = index(unpacked)?;
        let mut open: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        while let Some(name) = open.pop() {
            let kept = folder.join(format!("{name}.ko"));
            let Some(file) = files.get(&name).filter(|_| !kept.exists()) else {
                continue;
            };
            let module = compressed::read(file)?;
            open.extend(needs(&module));
            fs::write(kept, module)?;
        }
        Ok(Self { folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.ko"))
    }

    /// The files to load for `names`, what they need first. Those that are not there as files are
    /// left out if they are in `builtin`, the kernel's list of what it has built in.
    ///
    /// # Errors
    /// When one is neither.
    pub(super) fn in_order(&self, names: &[&str], builtin: &str) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in names {
            self.visit(name, builtin, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, builtin: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let file = self.file(name);
        if order.contains(&file) || is_builtin(name, builtin) {
            return Ok(());
        }
        if !file.exists() {
            bail!("this kernel has no module `{name}`");
        }
        for needed in needs(&fs::read(&file)?) {
            self.visit(&needed, builtin, order)?;
        }
        order.push(file);
        Ok(())
    }
}

fn is_builtin(name: &str, builtin: &str) -> bool {
    builtin
        .lines()
        .any(|line| module_name(Path::new(line)).is_some_and(|known| known == name))
}

/// All module files below a folder, by name.
fn index(folder: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut found = HashMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if let Some(name) = module_name(&entry.path()) {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

/// What the kernel calls the module in this file: `nf-tables.ko.xz` is `nf_tables`.
fn module_name(file: &Path) -> Option<String> {
    let (stem, rest) = file.file_name()?.to_str()?.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| stem.replace('-', "_"))
}

/// The names in the module's own `depends=` (modinfo(8)).
fn needs(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(start) = module
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = module.iter().skip(start + FIELD.len());
    let value: Vec<u8> = value.copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (file, name) in [
            ("a/nf-tables.ko", Some("nf_tables")),
            ("a/veth.ko.xz", Some("veth")),
            ("kernel/net/veth.ko.zst", Some("veth")),
            ("modules.order", None),
        ] {
            assert_eq!(module_name(Path::new(file)).as_deref(), name, "{file}");
        }
    }

    #[test]
    fn needs_are_read_from_the_module() {
        let module = b"\x7fELF..\0license=GPL\0depends=mrp,x-y,\0name=8021q\0";
        assert_eq!(needs(module), ["mrp", "x_y"]);
        assert!(needs(b"\0depends=\0").is_empty());
        assert!(needs(b"").is_empty());
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let folder = std::env::temp_dir().join(format!("modules-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, depends) in [("a", "c,b"), ("b", "c"), ("c", "")] {
            let text = format!("\0depends={depends}\0");
            fs::write(folder.join(format!("{name}.ko")), text).unwrap();
        }
        let modules = Modules::in_folder(folder.clone());
        let order = modules
            .in_order(&["a", "b", "d"], "kernel/x/d.ko\n")
            .unwrap();
        let names: Vec<_> = order
            .iter()
            .map(|file| module_name(file).unwrap())
            .collect();
        assert_eq!(names, ["c", "b", "a"]);
        let error = modules.in_order(&["e"], "").unwrap_err().to_string();
        assert_eq!(error, "this kernel has no module `e`");
        fs::remove_dir_all(folder).unwrap();
    }
}
