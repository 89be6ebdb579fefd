//! `demo`: a node and two devices on this machine pair by words through the DHT of that node, each step shown. All three
//! are processes of this same program with a home of their own, all traffic stays on the loopback interface, and nothing
//! is left behind.

mod programs;
mod steps;

use std::time::Duration;

use handfast::{Cause, Error, Event, EventKind};
use serde::Deserialize;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::Context;
use crate::render::count;
use crate::render::event::named;
use crate::signals::{INTERRUPTED, Signals};
use programs::{Program, Programs};
use steps::Steps;

/// The whole demo takes some seconds; a machine that needs longer than this is not going to get there.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the demo listens.
const LISTEN: [&str; 4] = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"];

/// Pings each way.
const PINGS: &str = "2";

/// What `serve --json` says, as far as it matters here.
#[derive(Deserialize)]
struct Serving {
    addresses: Vec<String>,
}

/// Runs the demo.
pub(super) async fn run(context: &Context) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let homes = tempfile::Builder::new().prefix("handfast-demo-").tempdir();
    let homes = homes.map_err(|error| Error::because(Cause::Storage, format!("a temporary folder: {error}")))?;
    // Whatever ends this, the processes end with it, and then their folder goes.
    let done = tokio::select! {
        done = tokio::time::timeout(LIMIT, play(context, &homes)) => done.unwrap_or_else(|_| {
            Err(Error::because(Cause::TimedOut, format!("the demo was not over after {} seconds", LIMIT.as_secs())))
        }),
        () = signals.next() => Ok(INTERRUPTED),
    };
    homes.close().map_err(|error| Error::because(Cause::Storage, format!("the temporary folder: {error}")))?;
    done
}

async fn play(context: &Context, homes: &TempDir) -> Result<u8, Error> {
    let steps = Steps::new(&context.out);
    let node = Programs::new(homes.path().join("node"), "node");
    let alice = Programs::new(homes.path().join("alice"), "alice");
    let bob = Programs::new(homes.path().join("bob"), "bob");

    let mut serve = node.start([&["serve", "--tied", "--json"], LISTEN.as_slice()].concat())?;
    let serving: Serving = serve.line().await?;
    let address =
        serving.addresses.first().ok_or_else(|| Error::because(Cause::Internal, "the node has no address"))?;
    steps.say("node", &format!("runs at {address}"));

    let daemons = (start(&steps, &alice, address).await?, start(&steps, &bob, address).await?);
    pair(&steps, &alice, &bob).await?;
    ping(&steps, &alice, "bob").await?;
    ping(&steps, &bob, "alice").await?;

    stop(&alice, daemons.0).await?;
    stop(&bob, daemons.1).await?;
    steps.say("both", "have stopped, and start again: no code is needed any more");
    let daemons = (start(&steps, &alice, address).await?, start(&steps, &bob, address).await?);
    ping(&steps, &alice, "bob").await?;
    ping(&steps, &bob, "alice").await?;

    stop(&alice, daemons.0).await?;
    stop(&bob, daemons.1).await?;
    serve.terminate().await?;
    steps.say("demo", "over: two devices know each other, and this machine is as it was before");
    Ok(0)
}

/// Starts a daemon.
async fn start(steps: &Steps<'_>, who: &Programs, node: &str) -> Result<Program, Error> {
    #[derive(Deserialize)]
    struct Started {
        id: String,
    }
    let name = who.name();
    let fixed = ["start", "--foreground", "--tied", "--json", "--name", name, "--bootstrap", node];
    let mut daemon = who.start([fixed.as_slice(), LISTEN.as_slice()].concat())?;
    let started: Started = daemon.line().await?;
    steps.say(name, &format!("runs, with the id {}", started.id));
    Ok(daemon)
}

/// Stops a daemon by the command for it.
async fn stop(who: &Programs, daemon: Program) -> Result<(), Error> {
    who.start(vec!["stop", "--json"])?.success().await?;
    daemon.success().await
}

/// Pairs the two by words, which go from one process to the other through this one and through pipes.
async fn pair(steps: &Steps<'_>, alice: &Programs, bob: &Programs) -> Result<(), Error> {
    let mut shows = alice.start(vec!["pair", "generate", "--yes", "--json"])?;
    let words = loop {
        let event: Event = shows.line().await?;
        if let EventKind::CodeCreated { words: Some(words), .. } = event.kind {
            break Zeroizing::new(words);
        }
    };
    steps.say("alice", "shows a code, which a person reads aloud:");
    for (row, four) in words.split(' ').collect::<Vec<_>>().chunks(4).enumerate() {
        let numbered: Vec<String> =
            four.iter().enumerate().map(|(i, word)| format!("{:>2} {word:<8}", row * 4 + i + 1)).collect();
        steps.say("", &format!("    {}", numbered.join(" ").trim_end()));
    }
    let mut enters = bob.start_with(vec!["pair", "join", "-", "--yes", "--json"], &words).await?;
    drop(words);
    let (mut at_alice, mut at_bob) = (true, true);
    while at_alice || at_bob {
        let (who, event) = tokio::select! {
            event = shows.line::<Event>(), if at_alice => ("alice", event?),
            event = enters.line::<Event>(), if at_bob => ("bob", event?),
        };
        if let Some(text) = told(&event.kind) {
            steps.say(who, &text);
        }
        if event.kind.is_terminal() {
            if who == "alice" { at_alice = false } else { at_bob = false }
        }
    }
    shows.success().await?;
    enters.success().await
}

/// What happened in a session, in a few words.
fn told(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::CodeAdvertised { nodes, .. } => {
            Some(format!("has put a sealed record on {}", count(*nodes, "node")))
        }
        EventKind::CodeEntered { .. } => Some("enters the words and looks for their record".to_owned()),
        EventKind::SessionDiscovered { found_by, addresses, .. } => {
            let address = addresses.first().map(String::as_str).unwrap_or_default();
            Some(format!("has found the record by {found_by}; it leads to {address}"))
        }
        EventKind::Connected { path, .. } => {
            Some(format!("is connected ({path}); both prove the words and their keys"))
        }
        EventKind::ApprovalNeeded { device, .. } => {
            Some(format!("is asked about {}, and --yes answers", named(device)))
        }
        EventKind::Paired { device, elapsed_ms, .. } => {
            Some(format!("is paired with {} after {elapsed_ms} ms", named(device)))
        }
        EventKind::PairingFailed { text, .. } => Some(format!("is not paired: {text}")),
        EventKind::CodeCreated { .. }
        | EventKind::DeviceConnected { .. }
        | EventKind::PathChanged { .. }
        | EventKind::DeviceDisconnected { .. }
        | EventKind::DeviceRemoved { .. }
        | EventKind::Pong { .. }
        | EventKind::AddressLost { .. }
        | _ => None,
    }
}

/// Pings over the paired channel.
async fn ping(steps: &Steps<'_>, who: &Programs, whom: &str) -> Result<(), Error> {
    let mut pings = who.start(vec!["ping", whom, "--count", PINGS, "--json"])?;
    let mut times = Vec::new();
    let mut way = String::new();
    while let Some(event) = pings.next_line::<Event>().await? {
        if let EventKind::Pong { rtt_ms, path, .. } = event.kind {
            times.push(format!("{rtt_ms:.1} ms"));
            way = path;
        }
    }
    pings.success().await?;
    steps.say(who.name(), &format!("pings {whom} over the paired channel: {} ({way})", times.join(", ")));
    Ok(())
}
