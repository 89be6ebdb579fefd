//! Publications and lookups: traps 3 (the quorum counts against 20, so the stores are counted here) and 6 (a lookup
//! yields every answer, valid or not).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use handfast_proto::id::JobId;
use handfast_proto::wire::record::{Record, Topic};
use libp2p::PeerId;
use libp2p::kad::{self, GetRecordOk, QueryId, QueryResult, Quorum};
use tokio::time::Instant;

use super::kademlia::{self, K, Pace, QUERY_TIMEOUT};
use super::outbox::Outbox;
use crate::api::NetEvent;

/// Lookups, and as many publications, that run at once: eight sessions of codes and a few of presence.
pub const MAX_LOOKUPS: usize = 16;

/// Distinct valid records one lookup tells. Only who holds the key can make more than one, and the newest few count.
const MAX_FOUND: usize = 16;

/// Nodes one record is put at: those closest by the routing table and those closest by the lookup.
const MAX_PUTS: usize = 2 * K;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Running,
    Stored,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// No node is known yet.
    Waiting,
    Running(QueryId),
    Done,
}

struct Put {
    record: kad::Record,
    tries: BTreeMap<PeerId, Try>,
    lookup: Lookup,
    deadline: Instant,
}

impl Put {
    fn stored_on(&self) -> usize {
        self.tries.values().filter(|t| **t == Try::Stored).count()
    }

    /// With nobody to ask yet the job waits for a node to be connected.
    fn is_over(&self, any_connected: bool) -> bool {
        let tried = self.stored_on() > 0 || (any_connected && !self.tries.is_empty());
        tried && self.lookup == Lookup::Done && self.tries.values().all(|t| *t != Try::Running)
    }
}

struct Get {
    topic: Topic,
    lookup: Lookup,
    found: Vec<Record>,
    deadline: Instant,
}

enum Purpose {
    PutAt(JobId, PeerId),
    Closest(JobId),
    Get(JobId),
}

/// The jobs of the owner in the DHT.
#[derive(Default)]
pub(crate) struct Dht {
    puts: BTreeMap<JobId, Put>,
    gets: BTreeMap<JobId, Get>,
    queries: HashMap<QueryId, Purpose>,
    /// Bytes of records received and sent.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Dht {
    /// Starts a publication at `connected` nodes and at those closest to the topic.
    pub(crate) fn put(
        &mut self,
        id: JobId,
        record: &Record,
        connected: &BTreeSet<PeerId>,
        kad: &mut kademlia::Behaviour,
        out: &mut Outbox,
    ) {
        if self.puts.len() >= MAX_LOOKUPS || self.puts.contains_key(&id) {
            out.push(NetEvent::PutDone { id, stored_on: 0 });
            return;
        }
        let key = kad::RecordKey::new(&record.topic().0);
        self.puts.insert(
            id,
            Put {
                record: kad::Record::new(key, record.as_bytes().to_vec()),
                tries: BTreeMap::new(),
                lookup: Lookup::Waiting,
                deadline: Instant::now() + QUERY_TIMEOUT,
            },
        );
        for peer in connected {
            self.put_at(id, *peer, kad);
        }
        self.begin(kad);
    }

    /// Starts a lookup.
    pub(crate) fn get(&mut self, id: JobId, topic: Topic, kad: &mut kademlia::Behaviour, out: &mut Outbox) {
        if self.gets.len() >= MAX_LOOKUPS || self.gets.contains_key(&id) {
            out.push(NetEvent::GetDone { id, answered: 0 });
            return;
        }
        self.gets.insert(
            id,
            Get { topic, lookup: Lookup::Waiting, found: Vec::new(), deadline: Instant::now() + QUERY_TIMEOUT },
        );
        self.begin(kad);
    }

    /// Ends a lookup without a word.
    pub(crate) fn cancel_get(&mut self, id: JobId, kad: &mut kademlia::Behaviour) {
        if let Some(get) = self.gets.remove(&id)
            && let Lookup::Running(query) = get.lookup
        {
            self.queries.remove(&query);
            finish(kad, query);
        }
    }

    /// Starts the jobs that wait for a first node to be known.
    pub(crate) fn begin(&mut self, kad: &mut kademlia::Behaviour) {
        if kad.kad().kbuckets().next().is_none() {
            return;
        }
        let gets = self.gets.iter_mut().filter(|(_, g)| g.lookup == Lookup::Waiting);
        for (id, get) in gets {
            let query = kad.kad().get_record(kad::RecordKey::new(&get.topic.0));
            get.lookup = Lookup::Running(query);
            self.queries.insert(query, Purpose::Get(*id));
        }
        let puts: Vec<JobId> =
            self.puts.iter().filter(|(_, p)| p.lookup == Lookup::Waiting).map(|(id, _)| *id).collect();
        for id in puts {
            self.begin_put(id, kad);
        }
    }

    fn begin_put(&mut self, id: JobId, kad: &mut kademlia::Behaviour) {
        let Some(put) = self.puts.get_mut(&id) else {
            return;
        };
        let topic = put.record.key.to_vec();
        let query = kad.kad().get_closest_peers(topic.clone());
        put.lookup = Lookup::Running(query);
        self.queries.insert(query, Purpose::Closest(id));
        // The lookup ends only when every dead node on its way has been given up, so the closest known ones are asked
        // without waiting for it.
        let target = kad::KBucketKey::new(topic);
        let known: Vec<PeerId> =
            kad.kad().get_closest_local_peers(&target).take(K).map(|key| *key.preimage()).collect();
        for peer in known {
            self.put_at(id, peer, kad);
        }
    }

    fn put_at(&mut self, id: JobId, peer: PeerId, kad: &mut kademlia::Behaviour) {
        let Some(put) = self.puts.get_mut(&id) else {
            return;
        };
        match put.tries.get(&peer) {
            Some(Try::Running | Try::Stored) => return,
            Some(Try::Failed) => {}
            None if put.tries.len() >= MAX_PUTS => return,
            None => {}
        }
        // One query for each node, so that each answer is known when it comes.
        let query = kad.kad().put_record_to(put.record.clone(), [peer].into_iter(), Quorum::One);
        put.tries.insert(peer, Try::Running);
        self.bytes_out += put.record.value.len() as u64;
        self.queries.insert(query, Purpose::PutAt(id, peer));
    }

    /// A node of the DHT is connected: publications that run want it too, as long as they are not on enough nodes.
    pub(crate) fn node_connected(&mut self, peer: PeerId, kad: &mut kademlia::Behaviour) {
        let wanting: Vec<JobId> = self.puts.iter().filter(|(_, put)| put.stored_on() < K).map(|(id, _)| *id).collect();
        for id in wanting {
            self.put_at(id, peer, kad);
        }
    }

    /// A query made progress.
    pub(crate) fn progressed(
        &mut self,
        query: QueryId,
        result: QueryResult,
        answered: usize,
        last: bool,
        kad: &mut kademlia::Behaviour,
        out: &mut Outbox,
    ) {
        let Some(purpose) = self.queries.get(&query) else {
            return;
        };
        match purpose {
            Purpose::Get(id) => {
                let id = *id;
                if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(answer))) = &result {
                    self.found(id, &answer.record, out);
                }
                if last {
                    self.queries.remove(&query);
                    if self.gets.remove(&id).is_some() {
                        out.push(NetEvent::GetDone { id, answered });
                    }
                }
            }
            Purpose::PutAt(id, peer) => {
                let (id, peer) = (*id, *peer);
                self.queries.remove(&query);
                if let Some(put) = self.puts.get_mut(&id) {
                    let stored = matches!(result, QueryResult::PutRecord(Ok(_)));
                    put.tries.insert(peer, if stored { Try::Stored } else { Try::Failed });
                    if stored {
                        let stored_on = put.stored_on();
                        out.push(NetEvent::Stored { id, stored_on });
                    }
                }
            }
            Purpose::Closest(id) => {
                if !last {
                    return;
                }
                let id = *id;
                self.queries.remove(&query);
                let closest = if let QueryResult::GetClosestPeers(Ok(found)) = result {
                    found.peers
                } else if let QueryResult::GetClosestPeers(Err(kad::GetClosestPeersError::Timeout { peers, .. })) =
                    result
                {
                    peers
                } else {
                    Vec::new()
                };
                if let Some(put) = self.puts.get_mut(&id) {
                    put.lookup = Lookup::Done;
                }
                for node in closest.iter().take(K) {
                    kad.add_node(&node.peer_id, &node.addrs);
                    self.put_at(id, node.peer_id, kad);
                }
            }
        }
    }

    fn found(&mut self, id: JobId, answer: &kad::Record, out: &mut Outbox) {
        self.bytes_in += answer.value.len() as u64;
        let Some(get) = self.gets.get_mut(&id) else {
            return;
        };
        // A broken, foreign or repeated answer is a miss, not an error.
        if get.found.len() >= MAX_FOUND || get.found.iter().any(|known| known.as_bytes()[..] == answer.value[..]) {
            return;
        }
        if let Ok(record) = Record::validate(&get.topic.0, &answer.value) {
            get.found.push(record.clone());
            out.push(NetEvent::Found { id, record });
        }
    }

    fn end_put(&mut self, id: JobId, out: &mut Outbox) {
        if let Some(put) = self.puts.remove(&id) {
            let stored_on = put.stored_on();
            out.push(NetEvent::PutDone { id, stored_on });
        }
    }

    /// Ends the jobs whose time is over.
    pub(crate) fn expire(&mut self, now: Instant, kad: &mut kademlia::Behaviour, out: &mut Outbox) {
        let late: Vec<JobId> = self.puts.iter().filter(|(_, put)| put.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.end_put(id, out);
            self.drop_queries_of(id, kad);
        }
        let late: Vec<JobId> = self.gets.iter().filter(|(_, get)| get.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            let answered = match self.gets.get(&id).map(|get| get.lookup) {
                Some(Lookup::Running(query)) => {
                    kad.kad().query(&query).map_or(0, |query| query.stats().num_successes() as usize)
                }
                Some(Lookup::Waiting | Lookup::Done) | None => 0,
            };
            self.cancel_get(id, kad);
            out.push(NetEvent::GetDone { id, answered });
        }
    }

    fn drop_queries_of(&mut self, put: JobId, kad: &mut kademlia::Behaviour) {
        self.queries.retain(|query, purpose| {
            let of_job = match purpose {
                Purpose::PutAt(id, _) | Purpose::Closest(id) => *id == put,
                Purpose::Get(_) => false,
            };
            if of_job {
                finish(kad, *query);
            }
            !of_job
        });
    }

    /// Ends the jobs that wait for a first node, because there is nobody to wait for.
    pub(crate) fn end_waiting(&mut self, out: &mut Outbox) {
        self.gets.retain(|id, get| {
            let waits = get.lookup == Lookup::Waiting;
            if waits {
                out.push(NetEvent::GetDone { id: *id, answered: 0 });
            }
            !waits
        });
        self.puts.retain(|id, put| {
            let waits = put.lookup == Lookup::Waiting;
            if waits {
                out.push(NetEvent::PutDone { id: *id, stored_on: put.stored_on() });
            }
            !waits
        });
    }

    /// Ends the publications for which nothing is left to do.
    pub(crate) fn end_finished(&mut self, any_connected: bool, out: &mut Outbox) {
        let over: Vec<JobId> =
            self.puts.iter().filter(|(_, put)| put.is_over(any_connected)).map(|(id, _)| *id).collect();
        for id in over {
            self.end_put(id, out);
        }
    }

    /// How soon Kademlia's dials should go out for these jobs.
    pub(crate) fn pace(&self, any_connected: bool) -> Pace {
        if !self.puts.is_empty() || !any_connected {
            Pace::AtOnce
        } else if self.gets.is_empty() {
            Pace::Background
        } else {
            Pace::HeadStart
        }
    }

    /// Jobs that run.
    pub(crate) fn len(&self) -> usize {
        self.puts.len() + self.gets.len()
    }
}

fn finish(kad: &mut kademlia::Behaviour, query: QueryId) {
    if let Some(mut query) = kad.kad().query_mut(&query) {
        query.finish();
    }
}
