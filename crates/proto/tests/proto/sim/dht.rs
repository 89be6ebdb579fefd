//! The model DHT: nodes with the real record store, of which some are silent, replay what is old, or invent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::id::JobId;
use handfast_proto::records::{RecordLimits, RecordStore, Source};
use handfast_proto::session::JobResult;
use handfast_proto::time::Time;
use handfast_proto::wire::record::{Record, Topic};

use super::disk::Owner;
use super::world::{Dev, Ev, World};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    /// Takes records and answers nothing.
    Mute,
    /// Answers with the first record it ever saw of a topic, for ever.
    Replays,
    /// Answers with records of other topics and with altered bytes.
    Invents,
}

/// A node.
pub(crate) struct Node {
    pub(crate) manners: Manners,
    pub(crate) alive: bool,
    pub(crate) store: RecordStore,
    /// The first record of each topic, for who replays.
    first: BTreeMap<Topic, Record>,
}

impl Node {
    pub(crate) fn new(manners: Manners) -> Node {
        Node { manners, alive: true, store: RecordStore::new(RecordLimits::NODE), first: BTreeMap::new() }
    }

    /// The bytes with which it answers a look-up.
    fn answer(&self, topic: &Topic, now: Time) -> Option<Vec<u8>> {
        match self.manners {
            Manners::Mute => None,
            Manners::Honest => self.store.get(topic, now).map(|r| r.as_bytes().to_vec()),
            Manners::Replays => self.first.get(topic).map(|r| r.as_bytes().to_vec()),
            Manners::Invents => {
                let mut bytes = self.first.values().next().map(|r| r.as_bytes().to_vec())?;
                bytes[700] ^= u8::from(self.first.contains_key(topic));
                Some(bytes)
            }
        }
    }
}

impl World {
    /// Adds so many honest nodes.
    pub(crate) fn add_nodes(&mut self, n: usize) {
        for _ in 0..n {
            self.nodes.push(Node::new(Manners::Honest));
        }
    }

    fn usable_nodes(&self, dev: Dev) -> Vec<usize> {
        let reachable = self.devices[dev].dht_up;
        self.nodes.iter().enumerate().filter(|(_, n)| reachable && n.alive).map(|(i, _)| i).collect()
    }

    /// A device puts a record; what the nodes keep is decided when the answers come back.
    pub(super) fn put(&mut self, dev: Dev, owner: Owner, job: JobId, record: Record) {
        let wait = if self.usable_nodes(dev).is_empty() { Duration::from_secs(2) } else { self.round_trip() };
        let run = self.run_number(dev);
        self.schedule(wait, Ev::Put { dev, run, owner, job, record });
    }

    pub(super) fn put_done(&mut self, dev: Dev, run: u64, owner: Owner, job: JobId, record: &Record) {
        let now = Time::at(self.now);
        let source = Source::of(IpAddr::V4(Ipv4Addr::new(5, 1, dev as u8, 1)));
        let mut stored_on = 0;
        for index in self.usable_nodes(dev) {
            if self.dice.chance(self.settings.put_loss) {
                continue;
            }
            let node = &mut self.nodes[index];
            node.first.entry(record.topic()).or_insert_with(|| record.clone());
            stored_on += usize::from(node.store.put(&record.topic().0, record.as_bytes(), source, now).is_ok());
        }
        self.job_done(dev, run, owner, job, JobResult::Published { stored_on });
    }

    /// A device looks a topic up: every node answers in its own time.
    pub(super) fn get(&mut self, dev: Dev, owner: Owner, job: JobId, topic: Topic) {
        let run = self.run_number(dev);
        let nodes = self.usable_nodes(dev);
        if nodes.is_empty() {
            let result = JobResult::LookedUp { answered: 0 };
            self.schedule(self.settings.look_up_limit, Ev::Job { dev, run, owner, job, result });
            return;
        }
        let mut longest = Duration::ZERO;
        let mut answered = 0;
        for node in nodes {
            let wait = self.round_trip();
            longest = longest.max(wait);
            answered += usize::from(self.nodes[node].manners != Manners::Mute);
            self.schedule(wait, Ev::NodeAnswers { dev, run, owner, job, topic, node });
        }
        if answered == 0 {
            longest = self.settings.look_up_limit;
        }
        self.schedule(longest, Ev::Job { dev, run, owner, job, result: JobResult::LookedUp { answered } });
    }

    pub(super) fn node_answers(&mut self, dev: Dev, run: u64, owner: Owner, job: JobId, topic: Topic, node: usize) {
        let node = &self.nodes[node];
        if !node.alive {
            return;
        }
        let Some(bytes) = node.answer(&topic, Time::at(self.now)) else { return };
        // A driver checks what a node would check; what is left is for the machines to judge. One answer in two of an
        // inventor is a valid record of another topic, handed in as if the driver had not looked at the key.
        let record = Record::validate(&topic.0, &bytes).ok().or_else(|| {
            let other = node.first.values().next()?;
            (node.manners == Manners::Invents).then(|| other.clone())
        });
        if let Some(record) = record {
            self.job_done(dev, run, owner, job, JobResult::Found(record));
        }
    }
}
