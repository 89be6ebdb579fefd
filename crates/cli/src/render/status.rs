//! `status`: the device as it is, and the paths that connect it to its peers.

use handfast::{DeviceEntry, DeviceName, NatStatus, Status};
use serde::Serialize;

use super::lists::field;
use super::table::table;
use super::{clean, count};

/// What a device says of a NAT that it has not been told of.
const UNKNOWN: &str = "unknown";

/// What `status` says, as JSON and as text.
#[derive(Serialize)]
pub(crate) struct StatusView {
    /// The device.
    #[serde(flatten)]
    status: Status,
    /// The paired devices that are connected.
    paths: Vec<PathInUse>,
}

/// How a paired device is connected.
#[derive(Serialize)]
struct PathInUse {
    device: DeviceName,
    path: Option<String>,
    address: Option<String>,
}

impl StatusView {
    /// The view of a device and its peers.
    pub(crate) fn new(status: Status, devices: Vec<DeviceEntry>) -> StatusView {
        let connected = devices.into_iter().filter(|device| device.connected);
        let paths = connected.map(|device| PathInUse {
            device: DeviceName { id: device.id, name: device.name },
            path: device.path,
            address: device.addresses.into_iter().next(),
        });
        StatusView { status, paths: paths.collect() }
    }

    fn nat(&self) -> String {
        let NatStatus { mapping, filtering, hairpin, .. } = &self.status.nat;
        if [mapping, filtering, hairpin].iter().all(|kind| *kind == UNKNOWN) {
            return "unknown: no STUN server has answered (--stun HOST:PORT names one)".to_owned();
        }
        format!("mapping {mapping}, filtering {filtering}, hairpin {hairpin}")
    }

    /// The text form.
    pub(crate) fn text(&self) -> String {
        let status = &self.status;
        let mut text = format!("{}, instance \"{}\": running\n", clean(&status.name), clean(&status.instance));
        for (what, value) in [
            ("fingerprint", clean(&status.fingerprint)),
            ("id", clean(&status.id)),
            ("DHT", format!("connected to {}", count(status.dht_nodes, "node"))),
            ("NAT", self.nat()),
            ("paired", count(status.devices, "device")),
        ] {
            text.push_str(&field(what, &value));
        }
        // Where it is not used, its driver does not run and knows nothing.
        let stages = if status.lan.enabled { &status.lan.acquisition[..] } else { &[] };
        if !status.lan.enabled {
            text.push_str(&field("local network", "not used"));
        }
        for stage in stages {
            let addresses = stage.addresses.join(", ");
            let outcome = if addresses.is_empty() {
                clean(&stage.outcome)
            } else {
                clean(&format!("{} ({addresses})", stage.outcome))
            };
            text.push_str(&field(&format!("by {}", clean(&stage.stage)), &outcome));
        }
        for error in &status.lan.errors {
            text.push_str(&field("trouble", &clean(error)));
        }
        for address in &status.listen {
            text.push_str(&field("listens on", &clean(address)));
        }
        if !status.addresses.is_empty() {
            let rows: Vec<[String; 4]> = status
                .addresses
                .iter()
                .map(|a| [clean(&a.address), clean(&a.scope), clean(&a.source), clean(&a.evidence)])
                .collect();
            text.push('\n');
            text.push_str(&table(["ADDRESS", "SCOPE", "SOURCE", "EVIDENCE"], &rows));
        }
        if !self.paths.is_empty() {
            let rows: Vec<[String; 3]> = self
                .paths
                .iter()
                .map(|p| {
                    [
                        &p.device.name,
                        p.path.as_ref().unwrap_or(&p.device.id),
                        p.address.as_ref().unwrap_or(&p.device.id),
                    ]
                    .map(|t| clean(t))
                })
                .collect();
            text.push('\n');
            text.push_str(&table(["CONNECTED TO", "PATH", "ADDRESS"], &rows));
        }
        if !status.sessions.is_empty() {
            let rows: Vec<[String; 4]> = status
                .sessions
                .iter()
                .map(|s| {
                    let ends = s.expires_at.as_deref().unwrap_or("-");
                    [clean(&s.session), clean(&s.role), clean(&s.state), clean(ends)]
                })
                .collect();
            text.push('\n');
            text.push_str(&table(["OPEN SESSION", "ROLE", "STATE", "CODE ENDS"], &rows));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use handfast::{Acquisition, AddressStatus, LanStatus, OpenSession};

    use super::*;

    fn status() -> Status {
        let unknown = || "unknown".to_owned();
        Status {
            instance: "alice".to_owned(),
            name: "kitchen".to_owned(),
            id: "2ekqz7wf".to_owned(),
            fingerprint: "2ekq-z7wf".to_owned(),
            running: true,
            listen: vec!["/ip4/10.0.0.2/tcp/4001".to_owned()],
            addresses: vec![AddressStatus {
                address: "/ip4/10.0.0.2/tcp/4001".to_owned(),
                scope: "lan".to_owned(),
                source: "listener".to_owned(),
                evidence: "listed".to_owned(),
            }],
            nat: NatStatus {
                mapping: unknown(),
                filtering: unknown(),
                hairpin: unknown(),
                public_addresses: Vec::new(),
            },
            dht_nodes: 3,
            sessions: vec![OpenSession {
                session: "1a2b".to_owned(),
                role: "joiner".to_owned(),
                state: "searching".to_owned(),
                expires_at: None,
            }],
            devices: 1,
            lan: LanStatus {
                enabled: true,
                acquisition: vec![Acquisition {
                    stage: "outbound".to_owned(),
                    outcome: "no default route".to_owned(),
                    addresses: Vec::new(),
                }],
                errors: vec!["eth9: no".to_owned()],
            },
            seq: 9,
        }
    }

    fn bob(connected: bool) -> DeviceEntry {
        DeviceEntry {
            id: "x".to_owned(),
            name: "bob".to_owned(),
            kind: "phone".to_owned(),
            fingerprint: "f".to_owned(),
            paired_at: "p".to_owned(),
            last_seen: None,
            connected,
            path: Some("direct".to_owned()),
            addresses: vec!["/ip4/5.1.2.3/tcp/1".to_owned()],
        }
    }

    #[test]
    fn c14_status_shows_evidence_paths_and_sessions() {
        assert_eq!(
            StatusView::new(status(), vec![bob(true)]).text(),
            "\
kitchen, instance \"alice\": running
  fingerprint  2ekq-z7wf
  id           2ekqz7wf
  DHT          connected to 3 nodes
  NAT          unknown: no STUN server has answered (--stun HOST:PORT names one)
  paired       1 device
  by outbound  no default route
  trouble      eth9: no
  listens on   /ip4/10.0.0.2/tcp/4001

ADDRESS                 SCOPE  SOURCE    EVIDENCE
/ip4/10.0.0.2/tcp/4001  lan    listener  listed

CONNECTED TO  PATH    ADDRESS
bob           direct  /ip4/5.1.2.3/tcp/1

OPEN SESSION  ROLE    STATE      CODE ENDS
1a2b          joiner  searching  -
"
        );
    }

    #[test]
    fn the_json_has_the_fields_of_the_contract_and_the_same_paths() {
        let json = serde_json::to_value(StatusView::new(status(), vec![bob(true), bob(false)])).expect("json");
        for field in ["instance", "name", "id", "running", "listen", "addresses", "nat", "sessions", "devices"] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["paths"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["paths"][0]["path"], "direct");
    }
}
