//! Two devices pair inside one program: a node, two devices with homes of their own, twelve words, a ping.
//!
//! Run with `cargo run -p handfast --example pair`. Everything stays on the loopback interface.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use handfast::node::{Node, NodeConfig, Stun};
use handfast::{Address, Builder, EventKind, Handle, PairOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let homes = tempfile::tempdir()?;
    let mut out = std::io::stdout();

    // Anybody can run such a node; `handfast serve` is one.
    let listen: Address = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
    let node = Node::start(NodeConfig {
        data: homes.path().join("node"),
        listen: vec![listen],
        external: Vec::new(),
        bootstrap: Vec::new(),
        stun: Stun::Off,
    })
    .await?;
    let bootstrap = node.addresses().first().ok_or("the node listens nowhere")?.parse::<handfast::Bootstrap>()?;

    let device = |name: &str| {
        Builder::new(homes.path().join(name)).name(name).listen(listen).bootstrap(bootstrap.clone()).start()
    };
    let (alice, bob) = (device("alice").await?, device("bob").await?);

    // Alice shows a code; whoever holds it may pair, so this program answers her question with yes.
    let code = alice.generate(PairOptions { yes: true, ..PairOptions::default() }).await?;
    writeln!(out, "alice shows: {}", code.words.join(" "))?;

    // Bob types it.
    let joined = bob.join(&code.words.join(" "), PairOptions { yes: true, ..PairOptions::default() }).await?;
    let (at_alice, at_bob) = tokio::try_join!(outcome(&alice, code.seq), outcome(&bob, joined.seq))?;
    writeln!(out, "alice: {at_alice}\nbob: {at_bob}")?;

    let pong = bob.ping("alice", Duration::from_secs(10)).await?;
    writeln!(out, "bob pings alice: {:?} over {}", pong.rtt, pong.path)?;

    alice.stop().await;
    bob.stop().await;
    node.stop().await;
    Ok(())
}

/// Waits for the end of the session whose events follow number `seq`.
async fn outcome(device: &Handle, seq: u64) -> Result<String, Box<dyn Error>> {
    let mut events = device.events(seq);
    while let Some(event) = events.next().await {
        if let EventKind::Paired { device, path, elapsed_ms, .. } = &event.kind {
            return Ok(format!("paired with {} ({}) over {path} in {elapsed_ms} ms", device.name, device.fingerprint));
        }
        if let EventKind::PairingFailed { text, hint, .. } = &event.kind {
            return Err(format!("{text}; {hint}").into());
        }
    }
    Err("the device stopped".into())
}
