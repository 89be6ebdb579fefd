//! `serve`: an infrastructure node that anybody can run.

use handfast::node::{Node, NodeConfig, Stun};
use handfast::{Cause, EVENT_VERSION, Error};
use serde::Serialize;

use super::Context;
use crate::args::Serve;
use crate::metrics::Metrics;
use crate::signals::Signals;
use crate::{cmd, log};

/// What is said when the node runs.
#[derive(Serialize)]
struct Serving {
    v: u32,
    seq: u64,
    time: String,
    event: &'static str,
    /// Dialable multiaddresses with `/p2p/ID`.
    addresses: Vec<String>,
    /// Where it answers STUN, as `ADDR:PORT`.
    stun: Vec<String>,
}

/// Runs the node until a signal comes.
pub(super) async fn run(context: &Context, args: Serve) -> Result<u8, Error> {
    if args.tied {
        cmd::start::tie_to_parent()?;
    }
    let mut signals = Signals::listen()?;
    log::to_stderr();
    let data = match args.data {
        // The node checks its own folder, and so it does one that somebody else has made above it.
        Some(data) => std::path::absolute(data).map_err(|error| Error::because(Cause::Usage, error))?,
        None => {
            context.instance.prepare_home()?;
            context.instance.node_data()
        }
    };
    let metrics = match args.metrics {
        Some(address) => Some(Metrics::bind(address).await?),
        None => None,
    };
    let stun = if args.stun_listen.is_empty() { Stun::Beside } else { Stun::At(args.stun_listen) };
    let config = NodeConfig { data, listen: args.listen, external: args.external, bootstrap: args.bootstrap, stun };
    let node = Node::start(config).await.map_err(|error| {
        if error.cause == Cause::AlreadyRunning {
            return error.with_hint("another node uses this folder: stop it, or name another one with --data");
        }
        error
    })?;
    if node.stun().is_empty() {
        let port = handfast::STUN_PORT;
        context.out.talk(&format!(
            "note: UDP port {port} is not free here: devices are not told their public addresses by this node; \
             --stun-listen names another port"
        ));
    }
    say_serving(context, &node);
    tokio::select! {
        () = signals.next() => {}
        end = node_ended(&node) => {
            node.stop().await;
            return Err(end);
        }
        () = serve_metrics(metrics, &node) => {}
    }
    node.stop().await;
    Ok(0)
}

fn say_serving(context: &Context, node: &Node) {
    let (addresses, stun) = (node.addresses(), node.stun().iter().map(ToString::to_string).collect());
    if addresses.is_empty() {
        context.out.talk("warning: there is no address at which anybody could reach this node");
    }
    let time = handfast::now_rfc3339();
    let serving = Serving { v: EVENT_VERSION, seq: 1, time, event: "serving", addresses, stun };
    context.out.show(&serving, |serving| {
        let mut text: String = serving.addresses.iter().flat_map(|address| [address.as_str(), "\n"]).collect();
        text.push_str("ready");
        text
    });
}

/// Resolves if the node ends by itself, which it should not.
async fn node_ended(node: &Node) -> Error {
    /// A node that has crashed is noticed so soon; a look costs a message.
    const LOOK: std::time::Duration = std::time::Duration::from_secs(10);
    loop {
        tokio::time::sleep(LOOK).await;
        if node.status().await.is_err() {
            return Error::because(Cause::Internal, "the node has ended by itself");
        }
    }
}

async fn serve_metrics(metrics: Option<Metrics>, node: &Node) {
    match metrics {
        Some(metrics) => metrics.serve(node).await,
        None => std::future::pending().await,
    }
}
