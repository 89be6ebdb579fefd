//! What leaves the devices on every local network, decoded: beacons as they must be and with nothing in them that names
//! or links anybody, a sweep that stays at home, QR texts with addresses that mean something (A24, B13, D9; acceptance
//! lines 4 and 7).

mod judge;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::code::Code;
use handfast_proto::code::qr::QrText;
use handfast_proto::keys::CodeKeys;
use handfast_proto::secret::Secret;

use super::super::Options;
use super::super::pairing::{Ending, join, offer};
use super::Form;
use crate::capture::{Capture, Captured};
use crate::device::{COMMAND_LIMIT, Device};
use crate::lan::observe::{self, OwnAddress};
use crate::lan::{LanLab, Profile};
use crate::leak::Needles;
use crate::report::Report;
use crate::rng::Rng;
use crate::secrets::{Identity, Secrets, entropy_of, words_of};

/// Names that occur nowhere by chance.
const ALICE: &str = "Xanthippe-Quokka-71";
const BOB: &str = "Bartholomew-Zebu-93";
const CAROL: &str = "Cunigunde-Okapi-58";

/// How long a code is looked for that nobody shows: beacons from the first second, and a whole sweep.
const VAIN_SEARCH: Duration = Duration::from_secs(3);

/// How long a code is shown before it is entered; the listeners are looked at meanwhile.
const SHOWN: Duration = Duration::from_millis(800);

/// How long a pairing is waited for where one may come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener's protocol and port.
type Port = (String, u16);

/// What is known of a device's host apart from what it sent.
struct Party {
    host: &'static str,
    own: Vec<OwnAddress>,
    /// Who listened, and when that was asked, since 1970.
    samples: Vec<(Duration, BTreeSet<Port>)>,
    /// A QR text of this device leads the other to these addresses.
    hinted: BTreeSet<IpAddr>,
    captured: Captured,
}

/// What of a run must not be seen on any wire, and the QR texts that were shown.
struct Hidden {
    needles: Vec<Needles>,
    texts: Vec<String>,
}

impl Hidden {
    fn count(&self) -> usize {
        self.needles.iter().map(Needles::len).sum()
    }
}

/// Plays the same day on every profile of `only` (all if it names none): a search in vain, and two pairings of one device.
///
/// # Errors
/// When a lab cannot be made or a program does not start.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let columns = ["profile", "host", "packets", "beacons", "windows", "asked one by one", "most in 1 s", "verdict"];
    let mut report = Report::new("what leaves the devices on local networks", &columns);
    for profile in Profile::ALL {
        if only.is_empty() || only.iter().any(|name| name == profile.name()) {
            let (parties, hidden) = play(profile, options).with_context(|| profile.name())?;
            judge::all(profile, &parties, &hidden, &mut report);
        }
    }
    Ok(report)
}

/// One side while the day is played.
struct Side {
    host: &'static str,
    capture: Capture,
    samples: Vec<(Duration, BTreeSet<Port>)>,
}

impl Side {
    fn start(lab: &LanLab, host: &'static str) -> Result<Self> {
        let file = lab.dir().join(format!("{host}.pcap"));
        let capture = Capture::start(lab.host(host)?.namespace(), "any", &file)?;
        Ok(Self { host, capture, samples: Vec::new() })
    }

    fn sample(&mut self, lab: &LanLab) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let listeners = observe::listeners(lab.host(self.host)?.namespace())?;
        self.samples.push((now, listeners.into_iter().map(|l| (l.protocol, l.port)).collect()));
        Ok(())
    }
}

fn play(profile: Profile, options: &Options) -> Result<([Party; 2], Hidden)> {
    let lab = LanLab::build(profile)?;
    let (mut on_alice, mut on_bob) = (Side::start(&lab, "alice")?, Side::start(&lab, "bob")?);
    let device = |host: &str, name: &str| Ok::<_, anyhow::Error>(Device::new(&lab.host(host)?, host)?.named(name));
    let (mut alice, mut bob) = (device("alice", ALICE)?, device("bob", BOB)?);
    let mut carol = Device::new(&lab.host("bob")?, "carol")?.named(CAROL);
    alice.start_daemon()?;
    bob.start_daemon()?;
    let mut secrets = Secrets::default();
    let mut topics = Needles::default();
    let mut learn = |label: &str, words: &str| -> Result<()> {
        let entropy: [u8; 16] = entropy_of(words)?.as_slice().try_into()?;
        topics.add_bytes(
            &format!("{label} lookup id"),
            &CodeKeys::derive(&Code::from_entropy(Secret::new(entropy))).topic().0,
        );
        secrets.add_code(label, words)
    };

    let mut rng = Rng::new(options.seed);
    let entropy: Vec<u8> = (0..16).map(|_| rng.next_u64().to_le_bytes()[7]).collect();
    let unknown = words_of(&entropy)?;
    learn("unknown code", &unknown)?;
    let searching = join(&bob, &unknown, &["--yes"])?;
    std::thread::sleep(VAIN_SEARCH / 2);
    on_bob.sample(&lab)?;
    std::thread::sleep(VAIN_SEARCH / 2);
    bob.run(&["pair", "cancel"], None, COMMAND_LIMIT)?;
    searching.finish(COMMAND_LIMIT)?;

    let (mut texts, mut tids) = (Vec::new(), Needles::default());
    for (label, form, joiner) in [("first code", Form::Words, &mut bob), ("second code", Form::Qr, &mut carol)] {
        let shown = offer(&alice, &["--yes"])?;
        learn(label, &shown.words)?;
        tids.add_bytes(&format!("{label} transport key"), &QrText::parse(&shown.qr).context("a QR text")?.tid.0);
        texts.push(shown.qr.clone());
        std::thread::sleep(SHOWN);
        on_alice.sample(&lab)?;
        if !joiner.is_running() {
            joiner.start_daemon()?;
        }
        let mut joining = join(joiner, form.of(&shown), &["--yes"])?;
        if joining.wait(PATIENCE)?.is_none() {
            joiner.run(&["pair", "cancel"], None, COMMAND_LIMIT)?;
        }
        let ending = Ending::of(&joining.finish(COMMAND_LIMIT)?);
        ensure!(ending.told == 1, "the joiner told its end {} times", ending.told);
        // One that nobody could reach is still open.
        alice.run(&["pair", "cancel", &shown.session], None, COMMAND_LIMIT)?;
    }

    let (id_of_alice, id_of_bob) = (alice.status()?, bob.status()?);
    let paired = alice.devices()?.into_iter().find(|device| device.id == id_of_bob.id);
    let fingerprint = bob.devices()?.into_iter().find(|device| device.id == id_of_alice.id).map(|d| d.fingerprint);
    for device in [&mut alice, &mut bob, &mut carol] {
        if device.is_running() {
            device.stop()?;
        }
    }
    let parties = [on_alice, on_bob].map(|side| -> Result<Party> {
        let captured = side.capture.stop()?;
        let own = observe::addresses(lab.host(side.host)?.namespace())?;
        Ok(Party { host: side.host, own, samples: side.samples, hinted: BTreeSet::new(), captured })
    });
    let [alice_party, bob_party] = parties;
    let (alice_party, mut bob_party) = (alice_party?, bob_party?);
    for text in &texts {
        bob_party.hinted.extend(QrText::parse(text).context("a QR text")?.hints);
    }
    if let (Some(paired), Some(fingerprint)) = (paired, fingerprint) {
        let identity = |dir, id, name, fingerprint| Identity { dir, id, name, fingerprint };
        secrets.add_pair(
            &identity(&alice.dir(), &id_of_alice.id, ALICE, &fingerprint),
            &identity(&bob.dir(), &id_of_bob.id, BOB, &paired.fingerprint),
        )?;
    }
    for name in [ALICE, BOB, CAROL] {
        secrets.identities.add_text(&format!("name {name}"), name);
    }
    let needles = vec![secrets.codes, secrets.keys, secrets.identities, topics, tids];
    Ok(([alice_party, bob_party], Hidden { needles, texts }))
}
