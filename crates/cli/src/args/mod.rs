//! The command line: what can be said, its help, and nothing else.

mod devices;
mod network;
mod node;
mod pair;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use devices::{DeviceList, DevicesCommand};
pub(crate) use network::NetworkArgs;
pub(crate) use node::node;
pub(crate) use pair::{Accept, Generate, Join, Nearby, PairCommand, Reject, Which};

use crate::instance::InstanceName;

/// Pings when nothing is said: enough to see a path, and over in a moment.
const DEFAULT_PINGS: u32 = 3;

/// Where a node listens when nothing is said: every interface, at the port of the libp2p world.
const SERVE_LISTEN: [&str; 4] =
    ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001", "/ip6/::/udp/4001/quic-v1", "/ip6/::/tcp/4001"];

const EXAMPLES: &str = "\
Examples:
  handfast demo                       watch two devices on this machine pair
  handfast serve                      run a node: it prints its addresses first
  handfast start --bootstrap ADDRESS  run this device, with that node
  handfast pair generate              show twelve words, and wait
  handfast pair join                  enter the words of the other device
  handfast devices                    the paired devices
  handfast ping NAME                  round trip to one of them

Every command takes --json: the same facts, one JSON value or one event a line, with stable exit codes.";

/// Pairs two devices by twelve words, with no account and no server that must be trusted.
///
/// One device shows twelve words, a person reads them aloud, the other device enters them. Both prove the words and
/// their keys to each other, both people are asked, and from then on the two find each other wherever they are.
#[derive(Parser)]
#[command(name = "handfast", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command, accepted before and after it.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The device to use: each instance is one device with an identity, a store and a daemon of its own.
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    pub(crate) instance: InstanceName,
    /// The folder of all instances [default: $HANDFAST_HOME, else $XDG_DATA_HOME/handfast, else ~/.local/share/handfast]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run this device in the background.
    Start(Start),
    /// Stop the running device and wait until it is gone.
    Stop,
    /// Show the running device: identity, addresses and how sure it is of them, paths in use, open sessions.
    Status,
    /// Pair with another device: show a code, enter one, answer, withdraw.
    #[command(subcommand, after_help = "`handfast network pair …` is another spelling of `handfast pair …`.")]
    Pair(PairCommand),
    /// The long spelling of `pair …`.
    #[command(subcommand, hide = true)]
    Network(NetworkCommand),
    /// The paired devices.
    Devices(DeviceList),
    /// Measure the round trip to a paired device, and show which path it takes.
    Ping(Ping),
    /// Follow what happens, one JSON object a line.
    #[command(after_help = "Examples:\n  handfast events\n  handfast events --since 0 | jq .event")]
    Events(Events),
    /// Run an infrastructure node for anybody's devices: bootstrap, DHT, relay, STUN, and calls back.
    Serve(Serve),
    /// Watch a node and two devices on this machine pair by words, step by step.
    #[command(
        after_help = "Everything stays on the loopback interface and in a temporary folder, and is gone at the end."
    )]
    Demo,
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  handfast completions bash > ~/.local/share/bash-completion/completions/handfast"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a folder.
    #[command(after_help = "Examples:\n  handfast man | man -l -\n  handfast man ~/.local/share/man/man1")]
    Man {
        /// Write the page of every command into this folder.
        dir: Option<PathBuf>,
    },
}

/// What stands behind `network`.
#[derive(Subcommand)]
pub(crate) enum NetworkCommand {
    /// Pair with another device.
    #[command(subcommand)]
    Pair(PairCommand),
}

/// `start`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  handfast start --bootstrap /ip4/203.0.113.7/udp/4001/quic-v1/p2p/12D3KooW…
  handfast --instance bob start --name bob --foreground

The options can stand in config.toml in the folder of the instance, as name = \"…\", listen = […], \
bootstrap = […], stun = […], no_dht, no_lan, no_relay, no_port_mapping, offline = true. What is given here goes before what stands there.")]
pub(crate) struct Start {
    /// Stay in the foreground; logs go to stderr as well if RUST_LOG is set.
    #[arg(long)]
    pub(crate) foreground: bool,
    /// The name others see [default: the host's name, with the instance's name unless that is "default"]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Use the network: accepted, and the default.
    #[arg(long)]
    pub(crate) enable_networking: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Tell the starting process by one line on stdout how it went, then live alone.
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) detached: bool,
    /// End when the starting process ends.
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) tied: bool,
}

/// `ping`.
#[derive(Args)]
#[command(after_help = "Examples:\n  handfast ping bob\n  handfast ping bob --count 10 --json")]
pub(crate) struct Ping {
    /// A paired device: its name, or its id or the beginning of it.
    pub(crate) device: String,
    /// How often.
    #[arg(long, short = 'c', value_name = "N", default_value_t = DEFAULT_PINGS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// `events`.
#[derive(Args)]
pub(crate) struct Events {
    /// Start after the event of this number instead of now; 0 gives everything that is still kept.
    #[arg(long, value_name = "SEQ")]
    pub(crate) since: Option<u64>,
}

/// `serve`.
#[derive(Args)]
#[command(after_help = "\
Its first lines are the addresses to give to devices as --bootstrap, then it says `ready`.

Examples:
  handfast serve
  handfast serve --listen /ip4/0.0.0.0/tcp/4001 --metrics 127.0.0.1:9464
  handfast serve --data /var/lib/handfast-serve
  handfast serve --bootstrap /ip4/198.51.100.2/udp/4001/quic-v1/p2p/12D3KooW…")]
pub(crate) struct Serve {
    /// Where to listen; repeatable.
    #[arg(long, value_name = "MULTIADDR", default_values = SERVE_LISTEN)]
    pub(crate) listen: Vec<handfast::Address>,
    /// An address at which others reach this node and which it does not see itself, say that of a router; repeatable.
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) external: Vec<handfast::Address>,
    /// Another node of the same DHT; repeatable.
    #[arg(long, value_name = "MULTIADDR", value_parser = node)]
    pub(crate) bootstrap: Vec<handfast::Bootstrap>,
    /// Where to answer STUN; repeatable, two addresses of one family show devices what their NAT does [default: port
    /// 3478 where it listens]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) stun_listen: Vec<std::net::SocketAddr>,
    /// The folder with the node's identity [default: `serve` in the folder of all instances]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Serve Prometheus metrics at /metrics here; keep it on loopback, it has no access control.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// End when the starting process ends.
    #[arg(long, hide = true)]
    pub(crate) tied: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("handfast").chain(line.split_whitespace()))
    }

    fn parsed(line: &str) -> Cli {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn b42_global_options_stand_before_and_after_the_command() {
        for line in [
            "--instance alice --home /h --json pair status",
            "pair --instance alice status --home /h --json",
            "pair status --instance alice --home /h --json",
            "network --json pair --home /h status --instance alice",
        ] {
            let global = parsed(line).global;
            assert_eq!(global.instance.as_str(), "alice", "{line}");
            assert_eq!(global.home, Some(PathBuf::from("/h")), "{line}");
            assert!(global.json, "{line}");
        }
        let global = parsed("status").global;
        assert_eq!((global.instance.as_str(), global.home, global.json), ("default", None, false));
    }

    #[test]
    fn b43_network_pair_is_pair() {
        for line in ["pair generate --yes --ttl 60", "network pair generate --ttl 60 --yes"] {
            let command = parsed(line).command;
            let (Command::Pair(PairCommand::Generate(generate))
            | Command::Network(NetworkCommand::Pair(PairCommand::Generate(generate)))) = command
            else {
                panic!("{line}");
            };
            assert!(generate.yes, "{line}");
            assert_eq!(generate.ttl.map(|ttl| ttl.as_secs()), Some(60), "{line}");
        }
        for verb in ["join -", "status", "list", "accept 1a", "reject", "cancel"] {
            parsed(&format!("network pair {verb}"));
        }
    }

    #[test]
    fn numbers_out_of_bounds_and_options_of_nobody_are_refused() {
        for line in [
            "pair generate --ttl 4",
            "pair generate --ttl 3601",
            "pair generate --ttl soon",
            "ping bob --count 0",
            "pair accept --emoji-match --emoji-differ",
            "pair reject --emoji-match",
            "pair join - --qr-image x.png",
            "serve --stun-listen 3478",
            "start --stun stun:5.1.2.3",
            "start --stun nonsense",
            "start --relay /ip4/5.1.2.3/tcp/1",
            "start --listen /ip4/1.2.3.4/sctp/5",
            "start --bootstrap /ip4/5.1.2.3/tcp/1",
            "--instance ../x status",
            "--instance serve status",
            "pair",
            "devices rename bob",
            "",
        ] {
            assert_eq!(parse(line).err().map(|e| e.exit_code()), Some(2), "{line}");
        }
    }

    #[test]
    fn a_node_without_its_id_is_answered_with_the_right_form() {
        for command in ["start", "pair join", "serve"] {
            let error = parse(&format!("{command} --bootstrap 10.88.0.1:4001")).err().expect(command).to_string();
            assert!(error.contains("write /ip4/10.88.0.1/udp/4001/quic-v1/p2p/ID"), "{error}");
        }
    }

    #[test]
    fn network_options_are_taken_where_a_device_may_run() {
        let options = "--listen /ip4/127.0.0.1/udp/0/quic-v1 --listen /ip4/127.0.0.1/tcp/0 --no-dht --offline --no-lan --no-relay \
                       --stun stun.example:3478 --stun 5.1.2.3:9";
        for command in ["start --enable-networking", "pair generate", "pair join -", "ping bob"] {
            parsed(&format!("{command} {options}"));
        }
        assert!(parse("status --no-dht").is_err());
        parsed("serve --stun-listen 0.0.0.0:3478 --stun-listen [::]:3478");
    }

    #[test]
    fn devices_alone_lists_them() {
        assert!(matches!(parsed("devices").command, Command::Devices(DeviceList { command: None })));
        assert!(matches!(
            parsed("devices list --json").command,
            Command::Devices(DeviceList { command: Some(DevicesCommand::List) })
        ));
    }
}
