//! Reads the part of `deny.toml` that this project uses. An unknown field is an error: a rule that nothing checks would
//! look like one that holds.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The rules of `deny.toml`.
#[derive(Debug)]
pub(super) struct Config {
    /// SPDX ids that are accepted.
    pub(super) allowed: Vec<String>,
    /// What is accepted of one crate besides.
    pub(super) exceptions: Vec<Exception>,
    /// Crates that must not be there.
    pub(super) banned: Vec<Banned>,
    /// Crates of which there must be one version, whatever `skip` says.
    pub(super) single: Vec<Banned>,
    /// Features that must be off.
    pub(super) features: Vec<BannedFeatures>,
    /// Second versions that are accepted.
    pub(super) skip: Vec<Skipped>,
}

/// Licences that are accepted of one crate alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    /// The name.
    #[serde(rename = "crate")]
    pub(super) name: String,
    /// SPDX ids.
    pub(super) allow: Vec<String>,
}

/// A crate with a rule and its reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Banned {
    /// The name.
    #[serde(rename = "crate")]
    pub(super) name: String,
    /// Why.
    pub(super) reason: String,
    #[serde(default, rename = "deny-multiple-versions")]
    deny_multiple_versions: bool,
}

/// A crate some of whose features must be off.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BannedFeatures {
    /// The name.
    #[serde(rename = "crate")]
    pub(super) name: String,
    /// The features.
    pub(super) deny: Vec<String>,
    /// Why.
    pub(super) reason: String,
}

/// A version that may stand beside another of the same crate.
#[derive(Debug)]
pub(super) struct Skipped {
    /// The name.
    pub(super) name: String,
    /// The exact version.
    pub(super) version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    deny: Vec<Banned>,
    features: Vec<BannedFeatures>,
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

impl Config {
    /// Reads the text of `deny.toml`.
    pub(super) fn read(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).context("deny.toml says what xtask does not check")?;
        let always = [&file.bans.multiple_versions, &file.sources.unknown_registry, &file.sources.unknown_git];
        ensure!(always.iter().all(|level| level.as_str() == "deny"), "deny.toml: every level is \"deny\" here");
        let reasons = file.bans.deny.iter().map(|ban| &ban.reason);
        let reasons = reasons.chain(file.bans.features.iter().map(|ban| &ban.reason));
        let reasons = reasons.chain(file.bans.skip.iter().map(|skip| &skip.reason));
        ensure!(reasons.into_iter().all(|reason| !reason.trim().is_empty()), "deny.toml: every exception has a reason");
        let skip = file.bans.skip.iter().map(|skip| {
            let (name, version) = skip.spec.split_once('@').with_context(|| format!("{}: name@version", skip.spec))?;
            Ok(Skipped { name: name.to_owned(), version: version.trim_start_matches('=').to_owned() })
        });
        let skip = skip.collect::<Result<_>>()?;
        let (single, banned) = file.bans.deny.into_iter().partition(|ban| ban.deny_multiple_versions);
        let Licenses { allow: allowed, exceptions } = file.licenses;
        Ok(Self { allowed, exceptions, banned, single, features: file.bans.features, skip })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small set of rules.
    pub(crate) const SAMPLE: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        exceptions = [{ crate = "weak", allow = ["MPL-2.0"] }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        [bans]
        multiple-versions = "deny"
        deny = [
            { crate = "openssl", reason = "one TLS library" },
            { crate = "tokio", deny-multiple-versions = true, reason = "one runtime" },
        ]
        features = [{ crate = "rustls", deny = ["ring"], reason = "one provider" }]
        skip = [{ crate = "syn@1.0.0", reason = "an old macro" }]
    "#;

    #[test]
    fn the_rules_are_read() {
        let config = Config::read(SAMPLE).expect("the sample is valid");
        assert_eq!(config.banned.len(), 1);
        assert_eq!(config.single[0].name, "tokio");
        assert_eq!(config.skip[0].version, "1.0.0");
    }

    #[test]
    fn a_rule_that_is_not_checked_is_refused() {
        assert!(Config::read(&SAMPLE.replace("[licenses]", "[licenses]\nconfidence-threshold = 0.9")).is_err());
        assert!(Config::read(&SAMPLE.replace("multiple-versions = \"deny\"", "multiple-versions = \"warn\"")).is_err());
        assert!(Config::read(&SAMPLE.replace("an old macro", " ")).is_err());
    }
}
