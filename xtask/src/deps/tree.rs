//! The packages that are really built, with their licences and active features, as `cargo tree` lists them. (`cargo
//! metadata` would also list what only a disabled feature could bring in.)

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Between the fields of one line; no name, licence or feature holds it.
const SEPARATOR: char = '|';

/// One package of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// The name.
    pub(super) name: String,
    /// The version.
    pub(super) version: String,
    /// The licence as the package states it.
    pub(super) licence: String,
    /// Every feature that is on in some build of it.
    pub(super) features: Vec<String>,
}

/// Lists every package that this machine builds for the workspace: for the program, its tests and its build.
pub(super) fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--prefix", "none", "--edges", "normal,build,dev"])
        .args(["--format", "{p}|{l}|{f}"])
        .current_dir(root)
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&String::from_utf8(output.stdout).context("cargo tree printed no UTF-8")?)
}

fn parse(text: &str) -> Result<Vec<Package>> {
    let mut packages: BTreeMap<(String, String), Package> = BTreeMap::new();
    for line in text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()) {
        let mut fields = line.split(SEPARATOR);
        let (Some(package), Some(licence), Some(features)) = (fields.next(), fields.next(), fields.next()) else {
            bail!("cargo tree printed a line of another form: {line}");
        };
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|word| word.strip_prefix('v'))) else {
            bail!("cargo tree printed a line of another form: {line}");
        };
        let known = packages.entry((name.to_owned(), version.to_owned())).or_insert_with(|| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.to_owned(),
            features: Vec::new(),
        });
        known.features.extend(features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned));
        known.features.sort_unstable();
        known.features.dedup();
    }
    Ok(packages.into_values().collect())
}

/// Every locked package comes from the one registry or is ours; nothing comes from a repository or a second registry.
pub(super) fn sources(lock: &str) -> Result<Vec<String>> {
    let lock: toml::Table = lock.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("no packages")?;
    let mut registry = None;
    let mut problems = Vec::new();
    for package in packages {
        let field = |name: &str| package.get(name).and_then(toml::Value::as_str);
        let name = field("name").context("a package without a name")?;
        let Some(source) = field("source") else {
            continue;
        };
        if !source.starts_with("registry+") {
            problems.push(format!("{name}: from {source}, not from the registry"));
        } else if *registry.get_or_insert(source) != source {
            problems.push(format!("{name}: from a second registry"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_tree_are_read() {
        let text = "a v1.0.0 (proc-macro)|MIT|std\n\na v1.0.0 (proc-macro)|MIT|alloc,std (*)\nb v0.2.0|ISC|\n";
        let packages = parse(text).expect("the sample is valid");
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].features, ["alloc", "std"]);
        assert_eq!((packages[1].name.as_str(), packages[1].version.as_str()), ("b", "0.2.0"));
        assert!(parse("a 1.0.0").is_err());
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        let lock = "[[package]]\nname = 'ours'\n[[package]]\nname = 'a'\nsource = 'registry+x'\n\
                    [[package]]\nname = 'b'\nsource = 'git+y'\n[[package]]\nname = 'c'\nsource = 'registry+z'\n";
        let problems = sources(lock).expect("the sample is valid");
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
