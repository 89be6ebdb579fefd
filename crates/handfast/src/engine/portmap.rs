//! The ports that routers map for this device: the machine says what is asked of which router, a task of its own asks.

use std::collections::BTreeSet;

use handfast_net::portmap as driver;
use handfast_proto::addr::Address;
use handfast_proto::portmap::{Job, Mapper, Mapping, Outcome, Refusal, Uplink};
use handfast_proto::secret::Rng;
use handfast_proto::time::Time;
use tokio::task::JoinSet;

use crate::engine::actor::Actor;
use crate::store::worker::{Asker, Change};

/// What is mapped, and the job under way, which ends with the device.
pub(super) struct Portmap {
    mapper: Mapper,
    uplinks: Vec<Uplink>,
    jobs: JoinSet<(Job, Outcome)>,
    running: Option<Job>,
}

impl Portmap {
    /// `left`: what the store says an earlier run has had mapped.
    pub(super) fn new(enabled: bool, left: Vec<Mapping>, rng: Rng) -> Portmap {
        Portmap { mapper: Mapper::new(enabled, left, rng), uplinks: Vec::new(), jobs: JoinSet::new(), running: None }
    }

    /// Looks which routers lead out.
    pub(super) fn look_around(&mut self) {
        self.uplinks = driver::uplinks();
    }

    /// Other routers may lead out, or the same one may have forgotten us.
    pub(super) fn moved(&mut self, now: Time) {
        self.look_around();
        self.mapper.moved(now);
    }

    /// The same after a sleep.
    pub(super) fn resumed(&mut self, now: Time) {
        self.look_around();
        self.mapper.resumed(now);
    }

    /// What routers map for us is on disk.
    pub(super) fn kept(&mut self, mappings: Vec<Mapping>) {
        self.mapper.kept(mappings);
    }

    /// When the machine wants to be asked again.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.mapper.poll_timeout()
    }

    /// Whether nothing is left to be taken back.
    pub(super) fn is_idle(&self, now: Time) -> bool {
        self.mapper.is_idle(now)
    }

    /// The end of a job; never, as long as there is none. Safe to drop before it is ready.
    pub(super) async fn next(&mut self) -> (Job, Outcome) {
        loop {
            match self.jobs.join_next().await {
                Some(Ok(done)) => return done,
                Some(Err(error)) => {
                    tracing::error!(%error, "a job of port mapping has crashed");
                    if let Some(job) = self.running {
                        return (job, Outcome::Failed(Refusal::Refused));
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// What came of a job.
    pub(super) fn done(&mut self, job: Job, outcome: Outcome, now: Time) {
        self.running = None;
        let (method, transport) = (job.mapping.method, job.mapping.transport);
        tracing::debug!(?method, ?transport, task = ?job.task, ?outcome, "a router was asked");
        self.mapper.done(job, outcome, now);
    }

    fn begin(&mut self, now: Time) {
        if let Some(job) = self.mapper.poll_job(now) {
            self.running = Some(job);
            self.jobs.spawn(async move { (job, driver::run(job).await) });
        }
    }
}

impl Actor {
    /// Tells the machine how things are, and carries out what it wants. True if others reach us elsewhere from now on.
    pub(super) fn settle_portmap(&mut self) -> bool {
        let now = self.now();
        let wanted = self.stopping.is_none() && self.wants_to_be_reached();
        let Portmap { mapper, uplinks, .. } = &mut self.portmap;
        mapper.set_surroundings(uplinks, &self.own.listeners(), now.time);
        mapper.set_wanted(wanted, now.time);
        mapper.handle_timeout(now.time);
        if let Some(mappings) = mapper.poll_keep() {
            // What cannot be written down is not asked for.
            self.worker.submit(Asker::Nobody, Change::Mappings(mappings));
        }
        let outside: BTreeSet<Address> = mapper.outside().collect();
        self.portmap.begin(now.time);
        let count = outside.len();
        let has_changed = self.own.set_mapped(outside);
        if has_changed {
            tracing::info!(count, "routers let others in to us at other addresses than before");
            self.addresses_changed(now);
        }
        has_changed
    }
}
