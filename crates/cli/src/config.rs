//! What an instance is run with: the options of the command, and for what they leave open its `config.toml`.

mod file;

use std::io::Read as _;
use std::path::Path;

use handfast::{Address, Bootstrap, Builder, Cause, Error, Network, StunServer};

use crate::args::{self, NetworkArgs};
use crate::instance::Instance;
use file::Config;

/// Longest `config.toml`: it holds some addresses.
const CONFIG_MAX: u64 = 64 * 1024;

/// A device as it is to be started.
///
/// # Errors
/// `usage` if `config.toml` cannot be understood, `storage` if it cannot be read.
pub(crate) fn builder(instance: &Instance, name: Option<String>, args: &NetworkArgs) -> Result<Builder, Error> {
    let path = instance.config();
    let config = read(&path)?;
    let network = network(&path, &config, args)?;
    let name = name.or(config.name).unwrap_or_else(|| instance.device_name());
    Ok(Builder::new(instance.dir()).instance(instance.name.as_str()).name(&name).network(network))
}

/// Which nodes of the DHT a device is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// None, and that is what the user wants.
    Unwanted,
    /// None is named.
    Missing,
    /// Some are named.
    Named,
}

/// Which nodes a device is to use that is started with `args`.
///
/// # Errors
/// As [`builder`].
pub(crate) fn nodes(instance: &Instance, args: &NetworkArgs) -> Result<Nodes, Error> {
    let path = instance.config();
    let network = network(&path, &read(&path)?, args)?;
    Ok(match network {
        Network { no_dht: true, .. } => Nodes::Unwanted,
        Network { bootstrap, .. } if bootstrap.is_empty() => Nodes::Missing,
        Network { .. } => Nodes::Named,
    })
}

fn network(path: &Path, config: &Config, args: &NetworkArgs) -> Result<Network, Error> {
    let listen: Vec<Address> = parse_all(path, "listen", &config.listen, str::parse)?;
    let bootstrap: Vec<Bootstrap> = parse_all(path, "bootstrap", &config.bootstrap, args::node)?;
    let stun: Vec<StunServer> = parse_all(path, "stun", &config.stun, str::parse)?;
    let offline = args.offline || config.offline;
    Ok(Network {
        listen: if args.listen.is_empty() { listen } else { args.listen.clone() },
        bootstrap: if args.bootstrap.is_empty() { bootstrap } else { args.bootstrap.clone() },
        stun: match (offline, args.stun.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => stun,
            (false, false) => args.stun.clone(),
        },
        no_lan: args.no_lan || config.no_lan,
        no_relay: args.no_relay || config.no_relay,
        no_port_mapping: args.no_port_mapping || config.no_port_mapping || offline,
        // Nodes of the DHT may be anywhere, so a device that stays in its network asks none.
        no_dht: args.no_dht || config.no_dht || offline,
    })
}

fn read(path: &Path) -> Result<Config, Error> {
    let unreadable = |error: std::io::Error| Error::because(Cause::Storage, format!("{}: {error}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(CONFIG_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Config::parse(&text).map_err(|error| {
        Error::because(Cause::Usage, format!("{}: {error}", path.display())).with_hint(
            "the keys are name, listen, bootstrap, stun, no_lan, no_dht, no_relay, no_port_mapping and offline",
        )
    })
}

fn parse_all<T, E: std::fmt::Display>(
    path: &Path,
    key: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Error> {
    texts
        .iter()
        .map(|text| {
            parse(text).map_err(|error| {
                Error::because(Cause::Usage, format!("{}: {key}: {error}", path.display()))
                    .with_hint("mend this line of the file")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "/ip4/5.1.2.3/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn with_config(text: &str, args: &NetworkArgs) -> Result<String, Error> {
        let home = tempfile::tempdir().expect("a folder");
        let instance = Instance::new("alice".parse().expect("a name"), Some(home.path().join("h"))).expect("short");
        instance.prepare().expect("made");
        std::fs::write(instance.config(), text).expect("written");
        builder(&instance, None, args).map(|builder| format!("{builder:?}"))
    }

    #[test]
    fn the_file_counts_and_options_go_before_it() {
        let text = format!("name = \"kitchen\"\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nbootstrap = [\"{NODE}\"]\n");
        let from_file = with_config(&text, &NetworkArgs::default()).expect("good");
        assert!(from_file.contains("\"kitchen\"") && from_file.contains("5.1.2.3") && from_file.contains("127.0.0.1"));
        assert!(from_file.contains("no_dht: false"));
        let listen = vec!["/ip4/127.0.0.9/tcp/7".parse().expect("an address")];
        let args = NetworkArgs { listen, offline: true, ..NetworkArgs::default() };
        let from_args = with_config(&text, &args).expect("good");
        assert!(from_args.contains("127.0.0.9") && !from_args.contains("127.0.0.1,"), "{from_args}");
        assert!(from_args.contains("no_dht: true") && from_args.contains("no_port_mapping: true"));
        let from_file = with_config("no_port_mapping = true", &NetworkArgs::default()).expect("good");
        assert!(from_file.contains("no_port_mapping: true") && from_file.contains("no_dht: false"));
    }

    #[test]
    fn stun_servers_are_those_of_the_options_or_of_the_file_and_none_for_a_device_that_stays_in_its_network() {
        let servers = |text: &str, args: &NetworkArgs| -> Vec<String> {
            let config: Config = toml::from_str(text).expect("good");
            let network = network(Path::new("config.toml"), &config, args).expect("good");
            network.stun.iter().map(ToString::to_string).collect()
        };
        let file = "stun = [\"stun.example:3478\", \"5.1.2.3:9\"]";
        let given = NetworkArgs { stun: vec!["5.1.2.4:3478".parse().expect("a server")], ..NetworkArgs::default() };
        assert_eq!(servers(file, &NetworkArgs::default()), ["stun.example:3478", "5.1.2.3:9"]);
        assert_eq!(servers(file, &given), ["5.1.2.4:3478"]);
        assert!(servers(file, &NetworkArgs { offline: true, ..given.clone() }).is_empty());
        assert!(servers(&format!("{file}\noffline = true"), &given).is_empty());
    }

    #[test]
    fn a_key_nobody_knows_and_a_bad_address_are_named() {
        for (text, named) in [
            ("bootstraps = []", "bootstraps"),
            ("listen = [\"/ip4/1.2.3.4\"]", "/ip4/1.2.3.4"),
            ("bootstrap = [\"/ip4/5.1.2.3/tcp/1\"]", "/ip4/5.1.2.3/tcp/1"),
            ("bootstrap = [\"5.1.2.3:4001\"]", "/ip4/5.1.2.3/udp/4001/quic-v1/p2p/ID"),
            ("stun = [\"stun:5.1.2.3\"]", "stun:5.1.2.3"),
            ("listen = 3", "listen"),
        ] {
            let error = with_config(text, &NetworkArgs::default()).expect_err(text);
            assert_eq!(error.cause, Cause::Usage, "{text}");
            assert!(error.text.contains(named) && error.text.contains("config.toml"), "{}", error.text);
        }
    }
}
