//! Asks routers to map ports, and to forget it: one job of `proto::portmap` at a time, each with an end in time. Nothing
//! here decides.
//!
//! Nobody but the router of the job is spoken to. PCP and NAT-PMP are a packet there and one back; UPnP is igd-next's,
//! which is pointed at the router alone and follows no address of anybody else (decision 0015).

mod upnp;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use handfast_proto::portmap::messages::{
    MAX_ANSWER, PMP_ADDRESS_REQUEST, PORT, pcp_answer, pcp_request, pmp_address, pmp_answer, pmp_request,
};
use handfast_proto::portmap::{Granted, Job, Method, Outcome, Refusal, Task, Uplink};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::routes;

/// How long one way of asking may take. A router at home answers a packet within milliseconds; UPnP takes half a dozen
/// connections.
const PACKET_LIMIT: Duration = Duration::from_secs(1);
/// See [`PACKET_LIMIT`].
const UPNP_LIMIT: Duration = Duration::from_secs(3);

/// The first question is repeated after this, and after double the pause again: radio loses packets.
const REPEAT: Duration = Duration::from_millis(250);

/// Answers that are read to one question: whoever floods us does not keep us longer than the limit, nor busy.
const MAX_ANSWERS: usize = 64;

/// The routers that lead out now, the best first, with our address on the way to each.
pub fn uplinks() -> Vec<Uplink> {
    let gateways = routes::gateways_v4().into_iter();
    gateways.filter_map(|gateway| Some(Uplink { gateway, source: routes::source_v4(gateway)? })).collect()
}

/// Does a job. Takes three seconds at most; safe to drop.
pub async fn run(job: Job) -> Outcome {
    let limit = if job.mapping.method == Method::Upnp { UPNP_LIMIT } else { PACKET_LIMIT };
    let outcome = timeout(limit, async {
        match job.mapping.method {
            Method::Pcp => pcp(job).await,
            Method::NatPmp => nat_pmp(job).await,
            Method::Upnp => upnp::run(job).await,
        }
    });
    outcome.await.unwrap_or(Outcome::Failed(Refusal::Silent))
}

async fn pcp(job: Job) -> Outcome {
    let (mapping, request) = (job.mapping, pcp_request(&job.mapping, job.task));
    let answer = match Router::connect(*mapping.inside.ip(), mapping.gateway).await {
        Ok(router) => router.ask(&request, |bytes| pcp_answer(bytes, &mapping)).await,
        Err(error) => Err(unreachable(&error)),
    };
    outcome(job.task, answer)
}

async fn nat_pmp(job: Job) -> Outcome {
    let (mapping, request) = (job.mapping, pmp_request(&job.mapping, job.task));
    let router = match Router::connect(*mapping.inside.ip(), mapping.gateway).await {
        Ok(router) => router,
        Err(error) => return Outcome::Failed(unreachable(&error)),
    };
    let answer = async {
        let ip = match job.task {
            Task::Map { .. } => router.ask(&PMP_ADDRESS_REQUEST, pmp_address).await?,
            Task::Unmap => Ipv4Addr::UNSPECIFIED,
        };
        let (port, lease) = router.ask(&request, |bytes| pmp_answer(bytes, &mapping)).await?;
        Ok(Granted { outside: SocketAddrV4::new(ip, port), lease })
    };
    outcome(job.task, answer.await)
}

fn outcome(task: Task, answer: Result<Granted, Refusal>) -> Outcome {
    match (task, answer) {
        (_, Err(refusal)) => Outcome::Failed(refusal),
        (Task::Map { .. }, Ok(granted)) => Outcome::Mapped(granted),
        (Task::Unmap, Ok(_)) => Outcome::Removed,
    }
}

/// Nothing can be sent there, or nobody listens.
fn unreachable(error: &io::Error) -> Refusal {
    if error.kind() == io::ErrorKind::ConnectionRefused { Refusal::Unsupported } else { Refusal::Silent }
}

/// A socket that hears one router alone.
struct Router(UdpSocket);

impl Router {
    async fn connect(ours: Ipv4Addr, router: Ipv4Addr) -> io::Result<Router> {
        Router::connect_at(ours, SocketAddrV4::new(router, PORT)).await
    }

    async fn connect_at(ours: Ipv4Addr, router: SocketAddrV4) -> io::Result<Router> {
        let socket = UdpSocket::bind((ours, 0)).await?;
        socket.connect(router).await?;
        Ok(Router(socket))
    }

    /// Asks until `read` understands an answer. Ends with the time limit of its caller at the latest.
    async fn ask<T>(&self, request: &[u8], read: impl Fn(&[u8]) -> Option<Result<T, Refusal>>) -> Result<T, Refusal> {
        let mut buffer = [0; MAX_ANSWER + 1];
        let (mut pause, mut answers) = (REPEAT, 0);
        loop {
            self.0.send(request).await.map_err(|error| unreachable(&error))?;
            let again = Instant::now() + pause;
            while let Ok(received) = timeout_at(again, self.0.recv(&mut buffer)).await {
                let len = received.map_err(|error| unreachable(&error))?;
                if let Some(answer) = read(&buffer[..len]) {
                    return answer;
                }
                answers += 1;
                if answers >= MAX_ANSWERS {
                    return Err(Refusal::Refused);
                }
            }
            pause *= 2;
        }
    }
}

#[cfg(test)]
mod tests;
