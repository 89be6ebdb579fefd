//! A node and devices for one test, and waiting for events with a limit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handfast::node::{Node, NodeConfig, Stun};
use handfast::{Address, Bootstrap, Builder, Event, EventKind, EventStream, Handle};

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    homes: tempfile::TempDir,
    node: Node,
}

impl World {
    pub(crate) async fn new() -> World {
        let homes = tempfile::tempdir().expect("a folder");
        let config = NodeConfig {
            data: homes.path().join("node"),
            listen: vec![loopback()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            stun: Stun::Off,
        };
        let node = Node::start(config).await.expect("a node");
        World { homes, node }
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        self.node.addresses()[0].parse().expect("its own address")
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.homes.path().join(name)
    }

    pub(crate) fn builder(&self, name: &str) -> Builder {
        Builder::new(self.home(name)).name(name).listen(loopback()).bootstrap(self.bootstrap())
    }

    pub(crate) async fn device(&self, name: &str) -> Handle {
        self.builder(name).start().await.expect("a device")
    }

    pub(crate) async fn end(self) {
        self.node.stop().await;
    }
}

pub(crate) fn loopback() -> Address {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")
}

/// The next event that `wanted` likes.
pub(crate) async fn event(events: &mut EventStream, wanted: impl Fn(&EventKind) -> bool) -> Arc<Event> {
    let find = async {
        loop {
            let event = events.next().await.expect("the device runs");
            if wanted(&event.kind) {
                return event;
            }
        }
    };
    tokio::time::timeout(LIMIT, find).await.expect("the event comes in time")
}

/// How a session ends: `paired`, or the cause.
pub(crate) async fn outcome(device: &Handle, session: &str) -> String {
    let ends = |kind: &EventKind| kind.is_terminal() && kind.session() == Some(session);
    let last = event(&mut device.events(0), ends).await;
    if let EventKind::PairingFailed { cause, .. } = &last.kind { cause.clone() } else { "paired".to_owned() }
}
