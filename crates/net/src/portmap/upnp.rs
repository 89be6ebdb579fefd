//! UPnP Internet Gateway Devices, by igd-next.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use handfast_proto::addr::Transport;
use handfast_proto::portmap::{Granted, Job, Mapping, Outcome, Refusal, Task};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{
    AddPortError, GatewayIpVersion, GetGenericPortMappingEntryError, PortMappingProtocol, RemovePortError,
    SearchOptions,
};
use tokio::time::timeout;

/// Where a router is asked what it is.
const SSDP: u16 = 1_900;

/// How long a router may take to say so. Most do at once, since they are asked by themselves.
const SEARCH_LIMIT: Duration = Duration::from_millis(1_500);
/// How long it may take to do one thing more.
const ACTION_LIMIT: Duration = Duration::from_millis(1_000);

/// How long its list may take where only the lease is looked for.
const LOOK_LIMIT: Duration = Duration::from_millis(400);

/// The name of a mapping in the list of a router.
const DESCRIPTION: &str = "handfast";

/// Mappings of a router that are looked through.
const MAX_ENTRIES: u32 = 32;

pub(super) async fn run(job: Job) -> Outcome {
    let mapping = job.mapping;
    let at = SocketAddrV4::new(mapping.gateway, SSDP);
    let Some(router) = find(*mapping.inside.ip(), at).await else {
        return Outcome::Failed(Refusal::Unsupported);
    };
    match job.task {
        Task::Map { lease } => map(&router, &mapping, lease).await,
        Task::Unmap => unmap(&router, &mapping).await,
    }
}

/// Asks this address alone. What answers and what it names must be at that address as well.
async fn find(ours: Ipv4Addr, at: SocketAddrV4) -> Option<Gateway<Tokio>> {
    let router = IpAddr::V4(*at.ip());
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(ours.into(), 0);
    options.broadcast_address = at.into();
    options.timeout = Some(SEARCH_LIMIT);
    options.gateway_ip_version = GatewayIpVersion::V4;
    options.allowed_gateway_ips = vec![router];
    let found = search_gateway(options).await.inspect_err(|error| tracing::debug!(%error, "no UPnP router")).ok()?;
    (found.addr.ip() == router).then_some(found)
}

async fn map(router: &Gateway<Tokio>, mapping: &Mapping, lease: u32) -> Outcome {
    let action = async {
        let ip = match router.get_external_ip().await {
            Ok(IpAddr::V4(ip)) => ip,
            Ok(IpAddr::V6(_)) | Err(_) => return Err(Refusal::Refused),
        };
        let (inside, port) = (SocketAddr::V4(mapping.inside), mapping.outside_port);
        let added = router.add_port(protocol(mapping), port, inside, lease, DESCRIPTION).await;
        added.map(|()| SocketAddrV4::new(ip, port)).map_err(|error| refusal(&error))
    };
    match timeout(ACTION_LIMIT, action).await.unwrap_or(Err(Refusal::Silent)) {
        Ok(outside) => Outcome::Mapped(Granted { outside, lease: shortened(router, mapping, lease).await }),
        Err(refusal) => Outcome::Failed(refusal),
    }
}

/// For how long the router says that it keeps what was asked for with this lease: it may give less, and does not say so.
async fn shortened(router: &Gateway<Tokio>, mapping: &Mapping, lease: u32) -> u32 {
    match timeout(LOOK_LIMIT, owner(router, mapping)).await {
        Ok(Owner::Us { left }) if left != 0 && lease != 0 => left.min(lease),
        Ok(Owner::Us { .. } | Owner::Another | Owner::Unknown) | Err(_) => lease,
    }
}

/// A router forgets whatever is at a port, also if it has given that to somebody else meanwhile.
async fn unmap(router: &Gateway<Tokio>, mapping: &Mapping) -> Outcome {
    let action = async {
        if owner(router, mapping).await == Owner::Another {
            return Outcome::Removed;
        }
        match router.remove_port(protocol(mapping), mapping.outside_port).await {
            Ok(()) | Err(RemovePortError::NoSuchPortMapping) => Outcome::Removed,
            Err(RemovePortError::ActionNotAuthorized | RemovePortError::RequestError(_)) => {
                Outcome::Failed(Refusal::Refused)
            }
        }
    };
    timeout(ACTION_LIMIT, action).await.unwrap_or(Outcome::Failed(Refusal::Silent))
}

#[derive(PartialEq, Eq)]
enum Owner {
    /// It leads to us, for so many seconds more, or for ever if that is 0.
    Us { left: u32 },
    /// The router does not say where it leads.
    Unknown,
    /// It leads elsewhere, or is not there.
    Another,
}

async fn owner(router: &Gateway<Tokio>, mapping: &Mapping) -> Owner {
    for index in 0..MAX_ENTRIES {
        match router.get_generic_port_mapping_entry(index).await {
            Ok(entry) if entry.external_port == mapping.outside_port && entry.protocol == protocol(mapping) => {
                let is_ours = entry.internal_client == mapping.inside.ip().to_string();
                return if is_ours { Owner::Us { left: entry.lease_duration } } else { Owner::Another };
            }
            Ok(_) => {}
            Err(GetGenericPortMappingEntryError::SpecifiedArrayIndexInvalid) if index > 0 => return Owner::Another,
            Err(_) => return Owner::Unknown,
        }
    }
    Owner::Unknown
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
