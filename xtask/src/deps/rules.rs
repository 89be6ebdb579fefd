//! The rules themselves: from what `deny.toml` says and what is there to what is wrong.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::config::Config;
use super::licence;
use super::tree::Package;

/// Packages whose licence is not accepted, and exceptions of which nothing is.
pub(super) fn licences(config: &Config, packages: &[Package]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in packages {
        let Package { name, version, licence, .. } = package;
        if licence.is_empty() {
            problems.push(format!("{name} {version}: states no licence"));
            continue;
        }
        let excepted = config.exceptions.iter().filter(|exception| exception.name == *name);
        let allowed = excepted.flat_map(|exception| &exception.allow).chain(&config.allowed).cloned();
        let allowed: Vec<String> = allowed.collect();
        if !licence::is_met(licence, &allowed).with_context(|| format!("{name} {version}"))? {
            problems.push(format!("{name} {version}: its licence is not accepted: {licence}"));
        }
    }
    let is_there = |name: &String| packages.iter().any(|package| package.name == *name);
    for exception in config.exceptions.iter().filter(|exception| !is_there(&exception.name)) {
        problems.push(format!("{}: an exception for its licence, and it is not there", exception.name));
    }
    Ok(problems)
}

/// Packages and features that must not be there.
pub(super) fn bans(config: &Config, packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        for ban in config.banned.iter().filter(|ban| ban.name == package.name) {
            problems.push(format!("{} {}: banned: {} ({})", package.name, package.version, ban.reason, who(package)));
        }
        for ban in config.features.iter().filter(|ban| ban.name == package.name) {
            for feature in ban.deny.iter().filter(|feature| package.features.contains(feature)) {
                problems.push(format!(
                    "{}: its feature {feature} is on: {} ({})",
                    package.name,
                    ban.reason,
                    who(package)
                ));
            }
        }
    }
    problems
}

/// Packages that are there in more versions than accepted, and accepted ones that are no longer needed.
pub(super) fn duplicates(config: &Config, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(package);
    }
    let is_skipped =
        |package: &Package| config.skip.iter().any(|skip| skip.name == package.name && skip.version == package.version);
    let mut problems = Vec::new();
    for (name, all) in &versions {
        let counted: Vec<&&Package> = all.iter().filter(|package| !is_skipped(package)).collect();
        if let Some(rule) = config.single.iter().find(|rule| rule.name == *name).filter(|_| all.len() > 1) {
            problems.push(format!("{name}: {} versions, and one is the rule: {}", all.len(), rule.reason));
        } else if counted.len() > 1 {
            let each: Vec<String> =
                counted.iter().map(|package| format!("{} ({})", package.version, who(package))).collect();
            problems.push(format!("{name}: a second version: {}", each.join(", ")));
        }
    }
    for skip in &config.skip {
        let all = versions.get(skip.name.as_str()).map_or(&[] as &[&Package], Vec::as_slice);
        if all.len() < 2 || !all.iter().any(|package| package.version == skip.version) {
            problems.push(format!("deny.toml: {}@{} is no duplicate any more: take it out", skip.name, skip.version));
        }
    }
    problems
}

/// How to see who needs a package.
fn who(package: &Package) -> String {
    format!("cargo tree --workspace -i {}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::SAMPLE;
    use super::*;

    fn config() -> Config {
        Config::read(SAMPLE).expect("the sample is valid")
    }

    fn package(name: &str, version: &str, licence: &str, features: &[&str]) -> Package {
        let features = features.iter().map(|feature| (*feature).to_owned()).collect();
        Package { name: name.to_owned(), version: version.to_owned(), licence: licence.to_owned(), features }
    }

    #[test]
    fn a_licence_that_is_not_accepted_is_found() {
        let packages = [
            package("a", "1.0.0", "GPL-3.0-only", &[]),
            package("b", "1.0.0", "", &[]),
            package("c", "1.0.0", "MIT", &[]),
            package("weak", "1.0.0", "MPL-2.0", &[]),
            package("other", "1.0.0", "MPL-2.0", &[]),
        ];
        let wrong = licences(&config(), &packages).expect("all are expressions");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(!wrong.iter().any(|problem| problem.contains("weak")));
        let none = licences(&config(), &[package("c", "1.0.0", "MIT", &[])]).expect("all are expressions");
        assert_eq!(none.len(), 1, "an exception without effect: {none:?}");
    }

    #[test]
    fn banned_packages_and_features_are_found() {
        let packages = [package("openssl", "1.0.0", "MIT", &[]), package("rustls", "1.0.0", "MIT", &["ring", "std"])];
        assert_eq!(bans(&config(), &packages).len(), 2);
        assert_eq!(bans(&config(), &[package("rustls", "1.0.0", "MIT", &["std"])]), [] as [String; 0]);
    }

    #[test]
    fn a_second_version_is_found() {
        let packages = [package("a", "1.0.0", "MIT", &[]), package("a", "2.0.0", "MIT", &[])];
        let problems = duplicates(&Config { skip: Vec::new(), ..config() }, &packages);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn an_accepted_second_version_is_not() {
        let packages = [package("syn", "1.0.0", "MIT", &[]), package("syn", "2.0.0", "MIT", &[])];
        assert_eq!(duplicates(&config(), &packages), [] as [String; 0]);
        let more = [packages.as_slice(), &[package("syn", "3.0.0", "MIT", &[])]].concat();
        assert_eq!(duplicates(&config(), &more).len(), 1);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        assert_eq!(duplicates(&config(), &[package("syn", "2.0.0", "MIT", &[])]).len(), 1);
        assert_eq!(duplicates(&config(), &[package("syn", "1.0.0", "MIT", &[])]).len(), 1);
    }

    #[test]
    fn what_must_be_single_is_found_although_accepted() {
        let mut config = config();
        config.skip.push(super::super::config::Skipped { name: "tokio".to_owned(), version: "0.1.0".to_owned() });
        let packages = [
            package("syn", "1.0.0", "MIT", &[]),
            package("syn", "2.0.0", "MIT", &[]),
            package("tokio", "0.1.0", "MIT", &[]),
            package("tokio", "1.0.0", "MIT", &[]),
        ];
        assert_eq!(duplicates(&config, &packages).len(), 1);
    }
}
