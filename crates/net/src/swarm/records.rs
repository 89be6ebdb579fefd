//! Trap 5 (values expire lazily, a full store refuses, anybody overwrites): the record store of the pure crate behind
//! the trait of the network stack, with the clock and the source of each put.

use std::borrow::Cow;

use handfast_proto::records::{RecordCounters, RecordLimits, RecordStore, Source};
use handfast_proto::wire::record::Topic;
use libp2p::PeerId;
use libp2p::kad;
use libp2p::kad::store::{Error, Result};

use crate::clock::Clock;

/// Records of others, as Kademlia sees them.
pub(crate) struct Records {
    store: RecordStore,
    clock: Clock,
    source: Option<Source>,
    refused: bool,
}

impl Records {
    pub(crate) fn new(limits: RecordLimits, clock: Clock) -> Records {
        Records { store: RecordStore::new(limits), clock, source: None, refused: false }
    }

    /// Whose request is being handled: Kademlia's store does not tell, and the caps count by source.
    pub(crate) fn set_source(&mut self, source: Option<Source>) {
        self.source = source;
    }

    /// Whether a put was refused since this was asked last.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&mut self) {
        self.store.sweep(self.clock.now());
    }

    /// Records that take room.
    pub(crate) fn len(&self) -> usize {
        self.store.len()
    }

    /// What the store has done so far.
    pub(crate) fn counters(&self) -> RecordCounters {
        self.store.counters()
    }
}

impl kad::store::RecordStore for Records {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, kad::Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, kad::ProviderRecord>>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        let topic = Topic(key.as_ref().try_into().ok()?);
        let record = self.store.get(&topic, self.clock.now())?;
        // Neither a publisher nor a remaining life is told: the first names a peer, the second helps only who probes.
        Some(Cow::Owned(kad::Record::new(key.clone(), record.as_bytes().to_vec())))
    }

    fn put(&mut self, record: kad::Record) -> Result<()> {
        // Only requests of others reach this: our own records are put at others, never here.
        let source = self.source.ok_or(Error::MaxRecords)?;
        self.store.put(record.key.as_ref(), &record.value, source, self.clock.now()).map(|_| ()).map_err(|_| {
            self.refused = true;
            Error::MaxRecords
        })
    }

    fn remove(&mut self, _: &kad::RecordKey) {
        // Kademlia removes what it finds expired; the records it sees carry no expiry, and ours go by our own clock.
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        // Read by the replication job alone, which is off: publishers refresh.
        std::iter::empty()
    }

    fn add_provider(&mut self, _: kad::ProviderRecord) -> Result<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &kad::RecordKey) -> Vec<kad::ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &kad::RecordKey, _: &PeerId) {}
}
