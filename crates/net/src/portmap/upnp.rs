//! UPnP Internet Gateway Devices, by igd-next.
//!
//! Its blocking client runs on a thread of its own: the one for tokio brings hyper's whole client with HTTP/2, which takes
//! 0.8 MB of an idle device's memory (decision 0015).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use attohttpc::ProxySettings;
use handfast_proto::addr::Transport;
use handfast_proto::portmap::{Granted, Job, Mapping, Outcome, Refusal, Task};
use igd_next::{
    AddPortError, Gateway, GatewayIpVersion, GetGenericPortMappingEntryError, PortMappingProtocol, RemovePortError,
    SearchOptions, search_gateway,
};
use tokio::sync::{Semaphore, oneshot};
use url::Url;

/// Where a router is asked what it is.
const SSDP: u16 = 1_900;

/// How long a router may take to say so. Most do at once, since they are asked by themselves.
const SEARCH_LIMIT: Duration = Duration::from_millis(1_500);

/// Threads at once. A router that goes silent in the middle keeps one for the ten seconds that igd-next gives a request.
static THREADS: Semaphore = Semaphore::const_new(4);

/// The name of a mapping in the list of a router.
const DESCRIPTION: &str = "handfast";

/// Mappings of a router that are looked through.
const MAX_ENTRIES: u32 = 32;

/// Begins nothing at the router after `limit`, and nothing at all while too many others are being waited for.
pub(super) async fn run(job: Job, limit: Duration) -> Outcome {
    let Ok(permit) = THREADS.try_acquire() else {
        return Outcome::Failed(Refusal::Silent);
    };
    let (answer, answered) = oneshot::channel();
    let until = Instant::now() + limit;
    let work = move || {
        let _permit = permit;
        // Nobody waits any longer if this fails.
        let _ = answer.send(work(&job, until));
    };
    match thread::Builder::new().name("upnp".to_owned()).spawn(work) {
        Ok(_) => answered.await.unwrap_or(Outcome::Failed(Refusal::Silent)),
        Err(error) => {
            tracing::warn!(%error, "no thread for UPnP");
            Outcome::Failed(Refusal::Silent)
        }
    }
}

fn work(job: &Job, until: Instant) -> Outcome {
    let mapping = &job.mapping;
    if is_proxied(&ProxySettings::from_env(), mapping.gateway) {
        tracing::info!(
            "UPnP is not asked: the environment names an HTTP proxy that would be asked in the router's place"
        );
        return Outcome::Failed(Refusal::Unsupported);
    }
    let at = SocketAddrV4::new(mapping.gateway, SSDP);
    let Some(router) = find(*mapping.inside.ip(), at) else {
        return Outcome::Failed(Refusal::Unsupported);
    };
    match job.task {
        Task::Map { lease } => map(&router, mapping, lease, until),
        Task::Unmap => unmap(&router, mapping, until),
    }
}

/// Would the HTTP client of igd-next, which reads the environment, ask somebody else than the router?
fn is_proxied(settings: &ProxySettings, router: Ipv4Addr) -> bool {
    Url::parse(&format!("http://{router}/")).is_ok_and(|url| settings.for_url(&url).is_some())
}

/// Asks this address alone. What answers and what it names must be at that address as well.
fn find(ours: Ipv4Addr, at: SocketAddrV4) -> Option<Gateway> {
    let router = IpAddr::V4(*at.ip());
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(ours.into(), 0);
    options.broadcast_address = at.into();
    options.timeout = Some(SEARCH_LIMIT);
    options.gateway_ip_version = GatewayIpVersion::V4;
    options.allowed_gateway_ips = vec![router];
    let found = search_gateway(options).inspect_err(|error| tracing::debug!(%error, "no UPnP router")).ok()?;
    (found.addr.ip() == router).then_some(found)
}

fn map(router: &Gateway, mapping: &Mapping, lease: u32, until: Instant) -> Outcome {
    let ip = match router.get_external_ip() {
        Ok(IpAddr::V4(ip)) => ip,
        Ok(IpAddr::V6(_)) | Err(_) => return Outcome::Failed(Refusal::Refused),
    };
    if Instant::now() >= until {
        return Outcome::Failed(Refusal::Silent);
    }
    let (inside, port) = (SocketAddr::V4(mapping.inside), mapping.outside_port);
    match router.add_port(protocol(mapping), port, inside, lease, DESCRIPTION) {
        Ok(()) => Outcome::Mapped(Granted { outside: SocketAddrV4::new(ip, port), lease }),
        Err(error) => Outcome::Failed(refusal(&error)),
    }
}

/// A router forgets whatever is at a port, also if it has given that to somebody else meanwhile.
fn unmap(router: &Gateway, mapping: &Mapping, until: Instant) -> Outcome {
    match owner(router, mapping, until) {
        Some(Owner::Another) => return Outcome::Removed,
        Some(Owner::UsOrUnknown) => {}
        None => return Outcome::Failed(Refusal::Silent),
    }
    match router.remove_port(protocol(mapping), mapping.outside_port) {
        Ok(()) | Err(RemovePortError::NoSuchPortMapping) => Outcome::Removed,
        Err(RemovePortError::ActionNotAuthorized | RemovePortError::RequestError(_)) => {
            Outcome::Failed(Refusal::Refused)
        }
    }
}

#[derive(PartialEq, Eq)]
enum Owner {
    /// It leads to us, or the router does not say where.
    UsOrUnknown,
    /// It leads elsewhere, or is not there.
    Another,
}

/// Nothing if the time is over.
fn owner(router: &Gateway, mapping: &Mapping, until: Instant) -> Option<Owner> {
    for index in 0..MAX_ENTRIES {
        let entry = router.get_generic_port_mapping_entry(index);
        if Instant::now() >= until {
            return None;
        }
        match entry {
            Ok(entry) if entry.external_port == mapping.outside_port && entry.protocol == protocol(mapping) => {
                let is_ours = entry.internal_client == mapping.inside.ip().to_string();
                return Some(if is_ours { Owner::UsOrUnknown } else { Owner::Another });
            }
            Ok(_) => {}
            Err(GetGenericPortMappingEntryError::SpecifiedArrayIndexInvalid) if index > 0 => {
                return Some(Owner::Another);
            }
            Err(_) => return Some(Owner::UsOrUnknown),
        }
    }
    Some(Owner::UsOrUnknown)
}

fn protocol(mapping: &Mapping) -> PortMappingProtocol {
    match mapping.transport {
        Transport::Quic => PortMappingProtocol::UDP,
        Transport::Tcp => PortMappingProtocol::TCP,
    }
}

fn refusal(error: &AddPortError) -> Refusal {
    match error {
        AddPortError::PortInUse => Refusal::Taken,
        AddPortError::OnlyPermanentLeasesSupported => Refusal::OnlyPermanent,
        AddPortError::ActionNotAuthorized
        | AddPortError::InternalPortZeroInvalid
        | AddPortError::ExternalPortZeroInvalid
        | AddPortError::SamePortValuesRequired
        | AddPortError::DescriptionTooLong
        | AddPortError::RequestError(_) => Refusal::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_environment_is_never_asked_in_the_routers_place() {
        let router = Ipv4Addr::new(192, 168, 1, 1);
        let proxy = || ProxySettings::builder().http_proxy(Url::parse("http://proxy.example:3128").ok());
        assert!(!is_proxied(&ProxySettings::builder().build(), router));
        assert!(is_proxied(&proxy().build(), router));
        assert!(!is_proxied(&proxy().add_no_proxy_host("192.168.1.1").build(), router));
    }
}
