//! The task of the local network: one call per kind of input, carried out and told.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::task::Poll;
use std::time::Duration;

use handfast_proto::lan::io::{
    CallFailure, CallId, Command, Datagram, Event, InCallId, ListenerId, OutCall, Surroundings, Transmit,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{self, Accepted, Answer, Arrived};
use super::beacons::Beacons;
use super::call::{Outcome, call};
use super::gate::Gate;
use super::listener::{ListenError, Listener};
use super::outbox::Outbox;
use super::socket::Read;
use super::surroundings::{self, MAX_ERRORS};
use super::tls::Tls;
use super::{gate, neighbours};
use crate::api::StartError;
use crate::rate::Rate;

/// How often the interfaces are read while anything is open.
const SURVEY_EVERY: Duration = Duration::from_secs(2);

/// Listeners at once: one per window, and twice as many as there are sessions (protocol, section 12).
const MAX_LISTENERS: usize = 16;

/// Calls at once: twice what the machine makes. It limits them; this is for the day it does not.
const MAX_CALLS: usize = 16;

/// Calls to other devices in a minute: twice what the machine makes (protocol, section 12).
const MAX_CALLS_A_MINUTE: usize = 40;

const MINUTE: Duration = Duration::from_secs(60);

/// Datagrams of one source address that are told in a second (protocol, section 6.1).
const PER_SOURCE: u8 = 50;

/// Calls that came in and wait to be told: as many as are let in.
const ARRIVED_QUEUE: usize = 2 * gate::MAX_CONNECTIONS;

/// For how long nothing is accepted after the system has refused to, for want of file descriptors: it says so again and
/// again as long as somebody waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for answers that are under way when the owner ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything the task owns.
pub(super) struct Driver {
    commands: mpsc::Receiver<Command>,
    out: Outbox,
    tls: Tls,
    surroundings: Surroundings,
    told: Option<Surroundings>,
    survey: Option<JoinHandle<Surroundings>>,
    next_survey: Instant,
    beacons: Beacons,
    beacon_errors: Vec<String>,
    rate: Rate,
    listeners: BTreeMap<ListenerId, Listener>,
    accept_from: Instant,
    gate: Gate,
    inbound: BTreeMap<InCallId, Inbound>,
    serving: JoinSet<InCallId>,
    arrived: mpsc::Receiver<Arrived>,
    to_arrived: mpsc::Sender<Arrived>,
    next_in_call: u64,
    calls: JoinSet<(CallId, Outcome)>,
    called_at: VecDeque<Instant>,
}

/// A connection that somebody has made to a listener.
struct Inbound {
    listener: ListenerId,
    /// Dropping it ends the connection.
    _alive: oneshot::Sender<()>,
    state: InboundState,
}

enum InboundState {
    /// C1 is not here yet.
    Reading,
    /// The owner has been told.
    Waiting(oneshot::Sender<Answer>),
    /// The answer is on its way.
    Answered,
}

impl Driver {
    pub(super) fn new(commands: mpsc::Receiver<Command>, events: mpsc::Sender<Event>) -> Result<Driver, StartError> {
        let tls = Tls::new();
        // A key and a client, made to see that they can be.
        let identity = tls.identity().map_err(|e| StartError::Transport(e.to_string()))?;
        tls.connector(identity.spki).map_err(|e| StartError::Transport(e.to_string()))?;
        let (to_arrived, arrived) = mpsc::channel(ARRIVED_QUEUE);
        let now = Instant::now();
        Ok(Driver {
            commands,
            out: Outbox::new(events),
            tls,
            surroundings: surroundings::read(),
            told: None,
            survey: None,
            next_survey: now,
            beacons: Beacons::default(),
            beacon_errors: Vec::new(),
            rate: Rate::new(PER_SOURCE, now),
            listeners: BTreeMap::new(),
            accept_from: now,
            gate: Gate::default(),
            inbound: BTreeMap::new(),
            serving: JoinSet::new(),
            arrived,
            to_arrived,
            next_in_call: 0,
            calls: JoinSet::new(),
            called_at: VecDeque::new(),
        })
    }

    /// Runs until the owner drops its end.
    pub(super) async fn run(mut self) {
        self.tell_surroundings();
        loop {
            self.out.flush();
            let now = Instant::now();
            tokio::select! {
                alive = self.out.hand_over(), if !self.out.is_empty() => {
                    if !alive {
                        break;
                    }
                }
                command = self.commands.recv(), if self.out.takes_commands() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                batch = poll_fn(|cx| self.beacons.poll_read(cx)) => self.on_datagrams(&batch),
                (id, accepted) = accept(&self.listeners), if self.accept_from <= now => self.on_accept(id, accepted),
                () = sleep_until(self.accept_from), if self.accept_from > now => {}
                Some(arrived) = self.arrived.recv() => self.on_arrived(arrived),
                Some(served) = self.serving.join_next() => self.on_served(whole(served)),
                Some(done) = self.calls.join_next() => {
                    let (id, result) = whole(done);
                    self.out.push(Event::CallDone(id, result));
                }
                seen = finished(&mut self.survey), if self.survey.is_some() => self.on_survey(seen),
                () = sleep_until(self.next_survey), if self.watches() && self.survey.is_none() => self.start_survey(),
            }
        }
        self.farewell().await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open(true) => {
                self.join();
                self.start_survey();
            }
            Command::Open(false) => {
                self.beacons.close();
                self.beacon_errors.clear();
            }
            Command::Send(transmit) => self.send(&transmit),
            Command::Listen(id) => self.listen(id),
            Command::Unlisten(id) => self.unlisten(id),
            Command::Call(id, out) => self.call(id, out),
            Command::Answer(id, answer) => self.answer(id, answer),
            Command::Neighbours => {
                let found = neighbours::list(&self.surroundings.interfaces);
                self.out.push(Event::Neighbours(found));
            }
        }
    }

    fn join(&mut self) {
        self.beacon_errors = self.beacons.open(&self.surroundings.interfaces);
        self.tell_surroundings();
    }

    fn send(&mut self, transmit: &Transmit) {
        if let Err(error) = self.beacons.send(transmit) {
            let (interface, to) = (transmit.interface, transmit.to);
            if self.beacons.tells_failure(interface, to, Instant::now()) {
                self.out.offer(Event::SendFailed { interface, to, error: error.to_string() });
            }
        }
    }

    fn listen(&mut self, id: ListenerId) {
        self.unlisten(id);
        let listener =
            if self.listeners.len() < MAX_LISTENERS { Listener::open(&self.tls) } else { Err(ListenError::TooMany) };
        match listener {
            Ok(listener) => {
                let (port, spki) = (listener.port, listener.spki);
                self.listeners.insert(id, listener);
                self.out.push(Event::Listening { id, port, spki });
                self.start_survey();
            }
            Err(error) => self.out.push(Event::ListenFailed { id, error: error.to_string() }),
        }
    }

    /// Closes the port and every connection of it but those whose answer is on its way.
    fn unlisten(&mut self, id: ListenerId) {
        self.listeners.remove(&id);
        self.inbound.retain(|_, inbound| match inbound.state {
            InboundState::Reading | InboundState::Waiting(_) => inbound.listener != id,
            InboundState::Answered => true,
        });
    }

    fn on_accept(&mut self, listener: ListenerId, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let now = Instant::now();
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                self.accept_from = now + ACCEPT_PAUSE;
                return;
            }
        };
        self.next_in_call += 1;
        let id = InCallId(self.next_in_call);
        let (Ok(local), Some(acceptor)) =
            (stream.local_addr(), self.listeners.get(&listener).map(|l| l.acceptor.clone()))
        else {
            return;
        };
        if !self.gate.admit(id, local, remote, &self.surroundings.interfaces, now) {
            return;
        }
        let (alive, gone) = oneshot::channel();
        let served = answer::serve(Accepted { id, listener, local, remote, stream }, acceptor, self.to_arrived.clone());
        self.serving.spawn(async move {
            tokio::select! {
                () = served => {}
                _ = gone => {}
            }
            id
        });
        self.inbound.insert(id, Inbound { listener, _alive: alive, state: InboundState::Reading });
    }

    fn on_arrived(&mut self, arrived: Arrived) {
        // One that is gone belonged to a listener that was ended meanwhile. An owner that is far behind would answer too
        // late: the caller is told so by being cut.
        if let Some(inbound) = self.inbound.get_mut(&arrived.id)
            && self.out.push_if_room(Event::Called(arrived.id, arrived.call))
        {
            inbound.state = InboundState::Waiting(arrived.answer);
        }
    }

    fn answer(&mut self, id: InCallId, answer: Answer) {
        let Some(inbound) = self.inbound.get_mut(&id) else {
            return;
        };
        if let InboundState::Waiting(waiting) = std::mem::replace(&mut inbound.state, InboundState::Answered)
            && waiting.send(answer).is_err()
        {
            tracing::debug!("an answer came too late");
        }
    }

    fn on_served(&mut self, id: InCallId) {
        self.inbound.remove(&id);
        self.gate.release(id);
    }

    fn call(&mut self, id: CallId, out: OutCall) {
        let now = Instant::now();
        let ourselves = out.to.ip() == out.from;
        while self.called_at.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.called_at.pop_front();
        }
        if self.calls.len() >= MAX_CALLS || (!ourselves && self.called_at.len() >= MAX_CALLS_A_MINUTE) {
            tracing::warn!("more calls than the protocol allows");
            self.out.push(Event::CallDone(id, Err(CallFailure::Broken)));
            return;
        }
        if !ourselves {
            self.called_at.push_back(now);
        }
        let tls = self.tls.clone();
        self.calls.spawn(async move { (id, call(tls, out).await) });
    }

    fn on_datagrams(&mut self, batch: &[Read]) {
        let now = Instant::now();
        for read in batch.iter().filter(|read| self.rate.admit(read.source.ip(), now)) {
            self.out.offer(Event::Received(Datagram {
                interface: read.interface,
                source: read.source,
                addressed: read.addressed,
                hop_limit: read.hop_limit,
                bytes: read.bytes().to_vec(),
            }));
        }
    }

    /// Whether the interfaces are read again and again: while they decide what is joined or who may call.
    fn watches(&self) -> bool {
        self.beacons.is_open() || !self.listeners.is_empty()
    }

    fn start_survey(&mut self) {
        if self.survey.is_none() {
            self.survey = Some(spawn_blocking(surroundings::read));
        }
    }

    fn on_survey(&mut self, seen: Surroundings) {
        self.survey = None;
        self.next_survey = Instant::now() + SURVEY_EVERY;
        self.surroundings = seen;
        if self.beacons.is_open() {
            self.join();
        }
        let dropped = self.out.take_dropped();
        if dropped > 0 {
            tracing::debug!(dropped, "datagrams dropped: they come faster than they are taken");
        }
    }

    /// Tells the surroundings if they are not those told last.
    fn tell_surroundings(&mut self) {
        let mut now = self.surroundings.clone();
        now.errors.extend(self.beacon_errors.iter().cloned());
        now.errors.truncate(MAX_ERRORS);
        if self.told.as_ref() != Some(&now) {
            self.told = Some(now.clone());
            self.out.push(Event::Surroundings(now));
        }
    }

    /// Closes everything; answers that are on their way get a moment to leave.
    async fn farewell(mut self) {
        self.beacons.close();
        self.listeners.clear();
        self.inbound.retain(|_, inbound| matches!(inbound.state, InboundState::Answered));
        let until = Instant::now() + FAREWELL;
        while !self.inbound.is_empty() {
            let Ok(Some(served)) = timeout_at(until, self.serving.join_next()).await else {
                break;
            };
            self.inbound.remove(&whole(served));
        }
        self.serving.shutdown().await;
        self.calls.shutdown().await;
    }
}

/// The next connection of any listener.
async fn accept(listeners: &BTreeMap<ListenerId, Listener>) -> (ListenerId, io::Result<(TcpStream, SocketAddr)>) {
    poll_fn(|cx| {
        for (id, listener) in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready((*id, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

async fn finished(survey: &mut Option<JoinHandle<Surroundings>>) -> Surroundings {
    match survey {
        Some(running) => whole(running.await),
        None => std::future::pending().await,
    }
}

/// What a task has returned. A panic in it is a bug and ends this task too, as it would have without the other.
fn whole<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(cancelled) => panic!("nobody cancels a task that is waited for: {cancelled}"),
    })
}
