//! What happens in a session, as lines for people.

use handfast::{Cause, DeviceCard, EventKind};

use super::{clean, count, error};

/// The line for an event of a session; none if it says nothing to a person.
pub(crate) fn line(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::CodeAdvertised { nodes: 0, .. } => {
            Some("No node of the DHT has stored the code yet; trying again.".to_owned())
        }
        EventKind::CodeAdvertised { nodes, .. } => {
            Some(format!("The code can be found: it is stored on {}.", count(*nodes, "node")))
        }
        EventKind::CodeEntered { .. } => Some("Looking for the other device.".to_owned()),
        EventKind::SessionDiscovered { found_by, addresses, .. } => {
            let number = addresses.len();
            let addresses = if number == 1 { "1 address".to_owned() } else { format!("{number} addresses") };
            Some(format!("Found it by {}, at {addresses}.", clean(found_by)))
        }
        EventKind::Connected { path, address, .. } => Some(format!("Connected: {}, {}.", clean(path), clean(address))),
        EventKind::Paired { device, path, elapsed_ms, warning, .. } => {
            let text = format!("Paired with {}, {}, in {elapsed_ms} ms.", named(device), clean(path));
            Some(match warning {
                Some(warning) => format!("{text}\nWARNING: {}", clean(warning)),
                None => text,
            })
        }
        EventKind::RequestRejected { .. } => Some("Nothing came of it; waiting for others.".to_owned()),
        EventKind::PairingFailed { text, hint, .. } => Some(error(text, hint)),
        EventKind::TroubleNoticed { cause, text, hint, .. } => Some(trouble(cause, text, hint)),
        // A question is asked, not told, and the rest is not about sessions.
        EventKind::CodeCreated { .. }
        | EventKind::ApprovalNeeded { .. }
        | EventKind::ComparisonNeeded { .. }
        | EventKind::DeviceConnected { .. }
        | EventKind::PathChanged { .. }
        | EventKind::DeviceDisconnected { .. }
        | EventKind::DeviceRemoved { .. }
        | EventKind::Pong { .. }
        | EventKind::AddressLost { .. }
        | _ => None,
    }
}

/// What is wrong while a code waits or is looked for. Without a node there is still the local network, which is all that
/// many people need.
fn trouble(cause: &str, text: &str, hint: &str) -> String {
    if cause == Cause::NoBootstrap.name() {
        format!("Note: {}; as it is, two devices meet on one network only. (Hint: {}.)", clean(text), clean(hint))
    } else {
        format!("Note: {}. {}.", clean(text), clean(hint))
    }
}

/// A device with its fingerprint.
pub(crate) fn named(device: &DeviceCard) -> String {
    format!("{} ({})", clean(&device.name), clean(&device.fingerprint))
}

/// What a paired device is allowed to do with this one.
const RIGHTS: &str = "find this device, connect to it and ping it";

/// How a connection runs.
fn path_in_words(path: &str) -> String {
    match path {
        "lan" => "in this network".to_owned(),
        "direct" => "directly, over other networks".to_owned(),
        "relay" => "through a relay".to_owned(),
        other => clean(other),
    }
}

/// Who asks to be paired.
pub(crate) struct Asker<'a> {
    /// The device.
    pub(crate) device: &'a DeviceCard,
    /// `lan`, `direct` or `relay`.
    pub(crate) path: &'a str,
    /// It is paired already.
    pub(crate) known: bool,
    /// What must be seen before the answer.
    pub(crate) warning: Option<&'a str>,
}

impl Asker<'_> {
    /// What stands above the question.
    pub(crate) fn description(&self) -> String {
        let Asker { device, path, known, warning } = self;
        let mut text = "\nA device that proved the code wants to be paired with this one.\n".to_owned();
        for (what, value) in [
            ("claims to be", clean(&device.name)),
            ("type", clean(&device.kind)),
            ("fingerprint", clean(&device.fingerprint)),
            ("path", path_in_words(path)),
            ("it may then", RIGHTS.to_owned()),
        ] {
            text.push_str(&format!("  {what:<12} {value}\n"));
        }
        if *known {
            text.push_str("  It is paired already: this renews the pairing.\n");
        }
        if let Some(warning) = warning {
            text.push_str(&format!("  WARNING: {}\n", clean(warning)));
        }
        text.push_str("If it is the right one, `handfast status` there shows the same fingerprint.");
        text
    }

    /// What is said where consent was given in advance.
    pub(crate) fn accepted(&self) -> String {
        let Asker { device, path, known, warning } = self;
        let again = if *known { ", paired already" } else { "" };
        let text = format!(
            "Accepted, as --yes says: a device that claims to be {}, type {}, {}{again}.",
            named(device),
            clean(&device.kind),
            path_in_words(path)
        );
        match warning {
            Some(warning) => format!("{text}\nWARNING: {}", clean(warning)),
            None => text,
        }
    }

    /// The question.
    pub(crate) fn question(&self) -> String {
        format!("Allow {}?", named(self.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> DeviceCard {
        DeviceCard {
            id: "x".to_owned(),
            name: "bob\r".to_owned(),
            kind: "phone".to_owned(),
            fingerprint: "2ekq-z7wf".to_owned(),
        }
    }

    #[test]
    fn c8_the_question_shows_name_type_fingerprint_path_and_warning() {
        let device = card();
        let asker = Asker { device: &device, path: "direct", known: false, warning: Some("another key") };
        assert_eq!(asker.question(), "Allow bob\u{fffd} (2ekq-z7wf)?");
        let text = asker.description();
        for part in [
            "claims to be bob\u{fffd}",
            "type         phone",
            "fingerprint  2ekq-z7wf",
            "path         directly",
            "it may then  find",
            "WARNING: another key",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let accepted = asker.accepted();
        assert!(accepted.contains("claims to be bob\u{fffd} (2ekq-z7wf)") && accepted.contains("WARNING: another key"));
        for text in [text, accepted] {
            assert!(!text.contains('\r'));
        }
        assert!(!asker.accepted().contains('?'));
    }

    #[test]
    fn lines_say_what_happened() {
        let session = || "1a".to_owned();
        let lines: Vec<Option<String>> = [
            EventKind::CodeAdvertised { session: session(), nodes: 3 },
            EventKind::SessionDiscovered {
                session: session(),
                found_by: "dht".to_owned(),
                addresses: vec!["/ip4/5.1.2.3/tcp/1".to_owned()],
            },
            EventKind::Paired {
                session: session(),
                device: card(),
                path: "direct".to_owned(),
                elapsed_ms: 312,
                warning: None,
            },
            EventKind::failed(None, handfast::Cause::Rejected),
            EventKind::AddressLost { address: "/ip4/5.1.2.3/tcp/1".to_owned(), evidence: "listed".to_owned() },
        ]
        .iter()
        .map(line)
        .collect();
        assert_eq!(lines[0].as_deref(), Some("The code can be found: it is stored on 3 nodes."));
        assert_eq!(lines[1].as_deref(), Some("Found it by dht, at 1 address."));
        assert_eq!(lines[2].as_deref(), Some("Paired with bob\u{fffd} (2ekq-z7wf), direct, in 312 ms."));
        assert!(lines[3].as_deref().is_some_and(|text| text.starts_with("error: ") && text.contains("hint:  ")));
        assert_eq!(lines[4], None);
    }
}
