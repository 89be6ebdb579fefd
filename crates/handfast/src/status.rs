//! How things are, as programs see it: the JSON of `status`, `devices` and `pair status` (`docs/interface.md`).

use handfast_proto::addr::{Scope, classify, scope};
use handfast_proto::addresses::OwnAddress;
use handfast_proto::session::SessionStatus;
use handfast_proto::stun::behaviour::{Behaviour, Filtering, Mapping};
use serde::{Deserialize, Serialize};

use crate::event::{Comparison, DeviceCard};

/// A running device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the instance.
    pub instance: String,
    /// The device's name.
    pub name: String,
    /// The device's id, the same on every peer.
    pub id: String,
    /// The short form of the device's key.
    pub fingerprint: String,
    /// Always true in the answer of a running device.
    pub running: bool,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Its addresses and how sure it is of each.
    pub addresses: Vec<AddressStatus>,
    /// How its NAT behaves.
    pub nat: NatStatus,
    /// Nodes of the DHT it is connected to.
    pub dht_nodes: usize,
    /// Open sessions.
    pub sessions: Vec<OpenSession>,
    /// Number of paired devices.
    pub devices: usize,
    /// The local network: how this device learned its own addresses.
    #[serde(default)]
    pub lan: LanStatus,
    /// Number of the newest event this status includes.
    pub seq: u64,
}

/// What is known of the local network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanStatus {
    /// Whether it is used at all.
    pub enabled: bool,
    /// The stages in which a device learns its own addresses, in their order, each with its outcome.
    pub acquisition: Vec<Acquisition>,
    /// What could not be read or sent, in the system's words.
    pub errors: Vec<String>,
}

/// One stage of learning our own addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquisition {
    /// `outbound`, `interfaces` or `discovery`.
    pub stage: String,
    /// What came of it, in words.
    pub outcome: String,
    /// The addresses it brought.
    pub addresses: Vec<String>,
}

/// One address of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// Multiaddress.
    pub address: String,
    /// `internet`, `lan` or `none`.
    pub scope: String,
    /// Where it comes from.
    pub source: String,
    /// How sure we are.
    pub evidence: String,
}

/// Who may be told an address, as it is called.
pub(crate) fn scope_name(ip: std::net::IpAddr) -> &'static str {
    match scope(classify(ip)) {
        Scope::Internet => "internet",
        Scope::Lan => "lan",
        Scope::None => "none",
    }
}

impl From<&OwnAddress> for AddressStatus {
    fn from(own: &OwnAddress) -> AddressStatus {
        let scope = scope_name(own.address.ip);
        AddressStatus {
            address: own.address.to_string(),
            scope: scope.to_owned(),
            source: own.source.name().to_owned(),
            evidence: own.evidence.name().to_owned(),
        }
    }
}

/// NAT behaviour in the terms of RFC 4787, as far as STUN servers could tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatStatus {
    /// How the public port is chosen: `none` (there is no NAT), `endpoint_independent`, `address_dependent`,
    /// `address_and_port_dependent` or `unknown`.
    pub mapping: String,
    /// Who is let in: the same words; `none` if there is neither a NAT nor a firewall.
    pub filtering: String,
    /// Whether two inside hosts meet by public address: `yes`, `no`, `none` (there is no NAT) or `unknown`.
    pub hairpin: String,
    /// Public addresses others see us at.
    pub public_addresses: Vec<String>,
}

impl NatStatus {
    pub(crate) fn new(found: &Behaviour, public_addresses: Vec<String>) -> NatStatus {
        let mapping = found.mapping.map_or("unknown", Mapping::name);
        let no_nat = found.mapping == Some(Mapping::None);
        let filtering = match found.filtering {
            Some(Filtering::EndpointIndependent) if no_nat => "none",
            filtering => filtering.map_or("unknown", Filtering::name),
        };
        let hairpin = match found.hairpin {
            _ if no_nat => "none",
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let [mapping, filtering, hairpin] = [mapping, filtering, hairpin].map(str::to_owned);
        NatStatus { mapping, filtering, hairpin, public_addresses }
    }
}

/// A session in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Which.
    pub session: String,
    /// `initiator` or `joiner`.
    pub role: String,
    /// Where it stands.
    pub state: String,
    /// When its code ends, RFC 3339.
    pub expires_at: Option<String>,
}

/// A session in `pair status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Which.
    pub session: String,
    /// `initiator` or `joiner`.
    pub role: String,
    /// Where it stands.
    pub state: String,
    /// When its code ends, RFC 3339.
    pub expires_at: Option<String>,
    /// The other device, once it proved itself.
    pub device: Option<DeviceCard>,
    /// How the connection runs.
    pub path: Option<String>,
    /// What a person is asked to compare now.
    pub comparison: Option<Comparison>,
    /// Why it failed.
    pub cause: Option<String>,
}

impl From<&SessionStatus> for SessionEntry {
    fn from(status: &SessionStatus) -> SessionEntry {
        SessionEntry {
            session: status.session.0.clone(),
            role: status.role.name().to_owned(),
            state: status.state.to_owned(),
            expires_at: status.expires_at.map(|at| rfc3339(at.0)),
            device: status.device.as_ref().map(DeviceCard::from),
            path: status.path.map(|p| p.name().to_owned()),
            comparison: status.sas.as_ref().map(Comparison::from),
            cause: status.cause.map(|c| c.name().to_owned()),
        }
    }
}

/// A paired device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// Its id, the same on every peer.
    pub id: String,
    /// Its name here: its own, or the one it was given with `devices rename`.
    pub name: String,
    /// The type it claims.
    #[serde(rename = "type")]
    pub kind: String,
    /// The short form of its key.
    pub fingerprint: String,
    /// When the pairing was made, RFC 3339.
    pub paired_at: String,
    /// When it was last connected, RFC 3339.
    pub last_seen: Option<String>,
    /// Whether it is connected now.
    pub connected: bool,
    /// How: `lan`, `direct` or `relay`; the last path if it is not connected.
    pub path: Option<String>,
    /// Where it is, or was last: multiaddresses, best first.
    pub addresses: Vec<String>,
}

/// Unix seconds as RFC 3339 in UTC; times beyond what it can say become its last second.
pub(crate) fn rfc3339(unix: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix.min(LAST));
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_unknown_and_where_there_is_no_nat_nothing_is_said_of_one() {
        let words = |found: &Behaviour| {
            let NatStatus { mapping, filtering, hairpin, .. } = NatStatus::new(found, Vec::new());
            [mapping, filtering, hairpin].join(" ")
        };
        assert_eq!(words(&Behaviour::default()), "unknown unknown unknown");
        let none = Behaviour { mapping: Some(Mapping::None), ..Behaviour::default() };
        assert_eq!(words(&none), "none unknown none");
        let open = Behaviour { filtering: Some(Filtering::EndpointIndependent), ..none.clone() };
        assert_eq!(words(&open), "none none none");
        let firewall = Behaviour { filtering: Some(Filtering::AddressAndPortDependent), ..none };
        assert_eq!(words(&firewall), "none address_and_port_dependent none");
        let cone = Behaviour {
            mapping: Some(Mapping::EndpointIndependent),
            filtering: Some(Filtering::EndpointIndependent),
            hairpin: Some(false),
            ..Behaviour::default()
        };
        assert_eq!(words(&cone), "endpoint_independent endpoint_independent no");
    }
}
