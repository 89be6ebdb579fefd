//! Devices and sessions as text.

use handfast::{DeviceEntry, SessionEntry};

use super::table::table;
use super::{clean, comparison};

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// `devices list`.
pub(crate) fn devices(devices: &[DeviceEntry]) -> String {
    if devices.is_empty() {
        return "No paired devices. `handfast pair generate`, `pair join` and `pair nearby` pair one.".to_owned();
    }
    // Not the id: with it a row does not fit into 80 columns, and the fingerprint names a device as well.
    let rows: Vec<[String; 5]> = devices
        .iter()
        .map(|device| {
            [
                clean(&device.name),
                clean(&device.kind),
                clean(&device.fingerprint),
                if device.connected { "now".to_owned() } else { or_nothing(device.last_seen.as_deref()) },
                or_nothing(device.path.as_deref()),
            ]
        })
        .collect();
    table(["NAME", "TYPE", "FINGERPRINT", "LAST SEEN", "PATH"], &rows)
}

/// `devices show`.
pub(crate) fn device(device: &DeviceEntry) -> String {
    let seen = if device.connected { "now".to_owned() } else { or_nothing(device.last_seen.as_deref()) };
    let mut text = format!("{}\n", clean(&device.name));
    for (what, value) in [
        ("type", clean(&device.kind)),
        ("fingerprint", clean(&device.fingerprint)),
        ("id", clean(&device.id)),
        ("paired", clean(&device.paired_at)),
        ("connected", seen),
        ("path", or_nothing(device.path.as_deref())),
    ] {
        text.push_str(&field(what, &value));
    }
    for address in &device.addresses {
        text.push_str(&field("address", &clean(address)));
    }
    text
}

/// `pair status`.
pub(crate) fn sessions(sessions: &[SessionEntry]) -> String {
    if sessions.is_empty() {
        return "No sessions.".to_owned();
    }
    let rows: Vec<[String; 6]> = sessions
        .iter()
        .map(|session| {
            let device = session.device.as_ref();
            [
                clean(&session.session),
                clean(&session.role),
                session
                    .cause
                    .as_ref()
                    .map_or_else(|| clean(&session.state), |c| format!("{}: {}", clean(&session.state), clean(c))),
                or_nothing(session.expires_at.as_deref()),
                device
                    .map_or_else(|| NOTHING.to_owned(), |d| format!("{} ({})", clean(&d.name), clean(&d.fingerprint))),
                or_nothing(session.path.as_deref()),
            ]
        })
        .collect();
    let mut text = table(["SESSION", "ROLE", "STATE", "CODE ENDS", "DEVICE", "PATH"], &rows);
    for session in sessions {
        if let Some(comparison) = &session.comparison {
            let session = clean(&session.session);
            text.push_str(&format!("\nTo compare in session {session}:\n{}", comparison::pictures(comparison)));
        }
    }
    text
}

/// A line of a description.
pub(super) fn field(what: &str, value: &str) -> String {
    format!("  {what:<12} {value}\n")
}

fn or_nothing(text: Option<&str>) -> String {
    text.map_or_else(|| NOTHING.to_owned(), clean)
}

#[cfg(test)]
mod tests {
    use handfast::DeviceCard;

    use super::*;

    fn entry() -> DeviceEntry {
        DeviceEntry {
            id: "2ekqz7wfmyh4d3ub6txo5jnac2lrpvgi".to_owned(),
            name: "bob\u{1b}".to_owned(),
            kind: "computer".to_owned(),
            fingerprint: "2ekq-z7wf-myh4-d3ub".to_owned(),
            paired_at: "2026-11-22T10:00:00Z".to_owned(),
            last_seen: Some("2026-11-22T10:05:00Z".to_owned()),
            connected: false,
            path: Some("direct".to_owned()),
            addresses: vec!["/ip4/5.1.2.3/tcp/4001".to_owned()],
        }
    }

    #[test]
    fn devices_in_columns() {
        assert_eq!(
            devices(&[entry(), DeviceEntry { connected: true, name: "kitchen".to_owned(), ..entry() }]),
            "\
NAME     TYPE      FINGERPRINT          LAST SEEN             PATH
bob\u{fffd}     computer  2ekq-z7wf-myh4-d3ub  2026-11-22T10:05:00Z  direct
kitchen  computer  2ekq-z7wf-myh4-d3ub  now                   direct
"
        );
    }

    #[test]
    fn one_device_in_full() {
        assert_eq!(
            device(&entry()),
            "\
bob\u{fffd}
  type         computer
  fingerprint  2ekq-z7wf-myh4-d3ub
  id           2ekqz7wfmyh4d3ub6txo5jnac2lrpvgi
  paired       2026-11-22T10:00:00Z
  connected    2026-11-22T10:05:00Z
  path         direct
  address      /ip4/5.1.2.3/tcp/4001
"
        );
    }

    #[test]
    fn b45_sessions_with_role_state_and_cause() {
        let open = SessionEntry {
            session: "1a2b".to_owned(),
            role: "initiator".to_owned(),
            state: "open".to_owned(),
            expires_at: Some("2026-11-22T10:10:00Z".to_owned()),
            device: None,
            path: None,
            comparison: None,
            cause: None,
        };
        let card = DeviceCard {
            id: "x".to_owned(),
            name: "bob".to_owned(),
            kind: "phone".to_owned(),
            fingerprint: "2ekq".to_owned(),
        };
        let failed = SessionEntry {
            role: "joiner".to_owned(),
            state: "failed".to_owned(),
            expires_at: None,
            device: Some(card),
            path: Some("direct".to_owned()),
            cause: Some("rejected".to_owned()),
            ..open.clone()
        };
        assert_eq!(
            sessions(&[open, failed]),
            "\
SESSION  ROLE       STATE             CODE ENDS             DEVICE      PATH
1a2b     initiator  open              2026-11-22T10:10:00Z  -           -
1a2b     joiner     failed: rejected  -                     bob (2ekq)  direct
"
        );
    }
}
