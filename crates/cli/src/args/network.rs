//! The network options of `start` and of the commands that may run a device themselves.

use clap::Args;
use handfast::{Address, Bootstrap, StunServer};

/// Where to listen and whom to ask.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network options (for a device that this command starts)")]
pub(crate) struct NetworkArgs {
    /// Where to listen; repeatable [default: every interface, QUIC and TCP]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<Address>,
    /// A node to meet others by, as `serve` prints it; repeatable.
    #[arg(long, value_name = "MULTIADDR", value_parser = super::node)]
    pub(crate) bootstrap: Vec<Bootstrap>,
    /// A STUN server to ask what the NAT does; repeatable [default: the bootstrap nodes, port 3478]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) stun: Vec<StunServer>,
    /// Do not use the DHT.
    #[arg(long)]
    pub(crate) no_dht: bool,
    /// Do not look for devices on the local network, and do not show there.
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Use no relay: neither be reached through one nor reach others.
    #[arg(long)]
    pub(crate) no_relay: bool,
    /// Ask no router to let others in.
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// Contact nothing outside the local network: no DHT. With --no-lan no packet leaves.
    #[arg(long)]
    pub(crate) offline: bool,
}

impl NetworkArgs {
    /// Whether anything was said.
    pub(crate) fn is_given(&self) -> bool {
        let NetworkArgs { listen, bootstrap, stun, no_dht, no_lan, no_relay, no_port_mapping, offline } = self;
        let switches = [*no_dht, *no_lan, *no_relay, *no_port_mapping, *offline];
        !listen.is_empty() || !bootstrap.is_empty() || !stun.is_empty() || switches.contains(&true)
    }
}
