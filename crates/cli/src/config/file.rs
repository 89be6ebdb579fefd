//! The text of `config.toml`: its keys, before anything is made of their values.

use serde::Deserialize;

/// `config.toml`. A key that is not known is an error: a mistyped one must not be silently without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) listen: Vec<String>,
    #[serde(default)]
    pub(crate) bootstrap: Vec<String>,
    #[serde(default)]
    pub(crate) stun: Vec<String>,
    #[serde(default)]
    pub(crate) no_lan: bool,
    #[serde(default)]
    pub(crate) no_dht: bool,
    #[serde(default)]
    pub(crate) no_relay: bool,
    #[serde(default)]
    pub(crate) no_port_mapping: bool,
    #[serde(default)]
    pub(crate) offline: bool,
}

impl Config {
    /// Reads a whole file. The error says which line is wrong.
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}
