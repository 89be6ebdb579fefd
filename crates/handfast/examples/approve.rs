//! Approving by hand: the initiator's question is answered by this program after it has looked at who asks; the joiner
//! declines the first time and agrees the second time.
//!
//! Run with `cargo run -p handfast --example approve`. Everything stays on the loopback interface.

use std::error::Error;
use std::io::Write as _;

use handfast::node::{Node, NodeConfig, Stun};
use handfast::{Address, Builder, EventKind, Handle, PairOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let homes = tempfile::tempdir()?;
    let listen: Address = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
    let data = homes.path().join("node");
    let node = Node::start(NodeConfig {
        data,
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

    for bob_agrees in [false, true] {
        let code = alice.generate(PairOptions::default()).await?;
        let joined = bob.join(&code.words.join(" "), PairOptions::default()).await?;
        let (at_alice, at_bob) =
            tokio::try_join!(person(&alice, code.seq, true), person(&bob, joined.seq, bob_agrees))?;
        let mut out = std::io::stdout();
        writeln!(out, "alice: {at_alice}\nbob:   {at_bob}")?;
        if alice.devices().await?.len() != usize::from(bob_agrees) {
            return Err("what is stored does not match what was agreed".into());
        }
    }
    alice.stop().await;
    bob.stop().await;
    node.stop().await;
    Ok(())
}

/// Plays the person at a device: looks at the question and answers it.
async fn person(device: &Handle, seq: u64, agrees: bool) -> Result<String, Box<dyn Error>> {
    let mut events = device.events(seq);
    while let Some(event) = events.next().await {
        if let EventKind::ApprovalNeeded { session, device: peer, path, warning, .. } = &event.kind {
            let answer = if agrees { "yes" } else { "no" };
            writeln!(std::io::stdout(), "Allow {} ({}) over {path}? {answer}", peer.name, peer.fingerprint)?;
            device.answer(Some(session.clone()), agrees && warning.is_none()).await?;
        }
        if let EventKind::Paired { device: peer, .. } = &event.kind {
            return Ok(format!("paired with {}", peer.name));
        }
        if let EventKind::PairingFailed { cause, .. } = &event.kind {
            return Ok(format!("not paired: {cause}"));
        }
    }
    Err("the device stopped".into())
}
