//! A device for unit tests, and what a command knows of it.

use handfast::{Error, Event, EventKind, Network};

use crate::cmd::Context;
use crate::daemon::{Client, Hosted};
use crate::instance::Instance;
use crate::output::Output;
use crate::term::Term;

/// A device that runs in this process and sends nothing, and a terminal where nobody answers.
pub(crate) struct Bench {
    pub(crate) context: Context,
    pub(crate) client: Client,
    hosted: Hosted,
    _home: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Bench {
        let home = tempfile::tempdir().expect("a folder");
        let name = "alice".parse().expect("a name");
        let instance = Instance::new(name, Some(home.path().join("home"))).expect("a short path");
        instance.prepare().expect("made");
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
        let network = Network { listen, no_dht: true, no_lan: true, ..Network::default() };
        let builder = handfast::Builder::new(instance.dir()).network(network);
        let hosted = Hosted::start(&instance, builder).await.expect("it starts");
        let client = Client::of(&instance);
        let term = Term { stdin: false, stdout: false, stderr: true, colour: false };
        Bench { context: Context { instance, out: Output::new(false), term }, client, hosted, _home: home }
    }

    /// An event as it comes from the device.
    pub(crate) fn event(kind: EventKind) -> String {
        let (v, time) = (handfast::EVENT_VERSION, handfast::now_rfc3339());
        serde_json::to_string(&Event { v, seq: 1, time, kind }).expect("JSON")
    }

    /// The session of the only code.
    pub(crate) async fn session(&self) -> Result<String, Error> {
        Ok(self.client.sessions().await?.remove(0).session)
    }

    pub(crate) async fn stop(self) {
        self.hosted.stop().await;
    }
}
