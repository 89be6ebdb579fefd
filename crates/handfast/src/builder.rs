//! How a device is set up and started.

use std::path::PathBuf;

use handfast_net::Bootstrap;
use handfast_net::stun::StunServer;
use handfast_proto::addr::Address;
use handfast_proto::wire::info::{DeviceName, DeviceType};

use crate::{Error, Handle};

/// What a device listens on and whom it asks. The default listens on every interface at ports the system chooses (and
/// keeps them over restarts as long as they are free) and knows no bootstrap node.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Addresses to listen on; empty: every interface, QUIC and TCP, IPv4 and IPv6.
    pub listen: Vec<Address>,
    /// Nodes of the DHT that are known beforehand; those that offer it are used as relays.
    pub bootstrap: Vec<Bootstrap>,
    /// STUN servers to ask what the NAT does; empty: those that the bootstrap nodes offer.
    pub stun: Vec<StunServer>,
    /// Do not use the DHT at all.
    pub no_dht: bool,
    /// Do not look for other devices on the local network, and do not show there.
    pub no_lan: bool,
    /// Neither be reached through relays nor reach others through them.
    pub no_relay: bool,
    /// Ask no router to let others in.
    pub no_port_mapping: bool,
}

/// Sets up a device.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) home: PathBuf,
    pub(crate) instance: String,
    pub(crate) name: String,
    pub(crate) kind: DeviceType,
    pub(crate) network: Network,
}

impl Builder {
    /// A device whose identity and store are in the folder `home`, which is made (mode 0700) if it does not exist.
    pub fn new(home: impl Into<PathBuf>) -> Builder {
        Builder {
            home: home.into(),
            instance: "default".to_owned(),
            name: "device".to_owned(),
            kind: DeviceType::Computer,
            network: Network::default(),
        }
    }

    /// The name of the instance, for `status`.
    pub fn instance(mut self, instance: &str) -> Builder {
        instance.clone_into(&mut self.instance);
        self
    }

    /// The name shown to peers; characters that are not safe to show are dropped, and at most 32 stay.
    pub fn name(mut self, name: &str) -> Builder {
        DeviceName::clean(name).as_str().clone_into(&mut self.name);
        self
    }

    /// What kind of device peers are told it is: `computer` (the default), `phone`, `tablet` or `server`.
    pub fn device_type(mut self, kind: &str) -> Builder {
        self.kind = DeviceType::from_name(kind);
        self
    }

    /// Adds a bootstrap node.
    pub fn bootstrap(mut self, node: Bootstrap) -> Builder {
        self.network.bootstrap.push(node);
        self
    }

    /// Adds an address to listen on.
    pub fn listen(mut self, address: Address) -> Builder {
        self.network.listen.push(address);
        self
    }

    /// Sets everything about the network at once.
    pub fn network(mut self, network: Network) -> Builder {
        self.network = network;
        self
    }

    /// Starts the device on the current tokio runtime.
    ///
    /// # Errors
    /// `already_running` if another process uses the same home, `storage` if the store cannot be opened safely,
    /// `no_network` if nothing can be listened on.
    pub async fn start(self) -> Result<Handle, Error> {
        crate::engine::start(self).await
    }
}
