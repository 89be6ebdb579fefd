//! Two naive devices as victims.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::HEXLOWER;
use ed25519_dalek::Signer as _;
use handfast_net::StreamProtocol;
use handfast_proto::addr::Address;
use handfast_proto::id::Tid;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::record::Record;

use super::{Forger, Public, Says, Side, Target};
use crate::naive::{Message, NaiveAdvert, NaiveDevice, NaiveEnd, OPEN, OVER, read, seal};
use crate::peer::Peer;
use crate::scenario::attack::forge;
use crate::scenario::attack::stage::{ANSWER, Stage};

pub(super) struct NaiveTarget<'a> {
    stage: &'a Stage,
    alice: NaiveDevice,
    bob: Arc<NaiveDevice>,
    code: Option<[u8; 16]>,
    joining: Option<JoinHandle<Result<NaiveEnd>>>,
    ended: Option<NaiveEnd>,
}

impl<'a> NaiveTarget<'a> {
    pub(super) fn new(stage: &'a Stage) -> Result<Self> {
        let (lab, bootstrap) = (&stage.world.lab, stage.world.dht.bootstrap());
        Ok(Self {
            stage,
            alice: NaiveDevice::new(&lab.host("alice")?, "alice", &bootstrap)?,
            bob: Arc::new(NaiveDevice::new(&lab.host("bob")?, "bob", &bootstrap)?),
            code: None,
            joining: None,
            ended: None,
        })
    }
}

impl Target for NaiveTarget<'_> {
    fn name(&self) -> &'static str {
        "the naive device"
    }

    fn offer(&mut self) -> Result<Public> {
        let code = self.alice.offer()?;
        self.code = Some(code);
        let (tid, addresses) = self.alice.place();
        let topic = seal(&NaiveAdvert { state: OPEN, session: code, tid, addresses: Vec::new() }, 1)?.topic();
        let (found, _) = self.stage.mallory.get(topic)?;
        let record = found.into_iter().next().context("the naive record is not in the DHT")?;
        Ok(Public { topic, record, tid, addresses })
    }

    fn join(&mut self) -> Result<()> {
        let (bob, code) = (Arc::clone(&self.bob), self.code.context("no code is shown")?);
        self.joining = Some(std::thread::spawn(move || bob.join(code)));
        Ok(())
    }

    fn has_joined(&mut self) -> Result<bool> {
        if let Some(joining) = self.joining.take_if(|joining| joining.is_finished()) {
            self.ended = Some(joining.join().ok().context("a naive device panicked")??);
        }
        Ok(self.ended.is_some())
    }

    fn believes_over(&mut self) -> Result<bool> {
        Ok(self.ended == Some(NaiveEnd::Over))
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn accepted(&self, side: Side) -> Result<Vec<String>> {
        let paired = match side {
            Side::Initiator => self.alice.paired(),
            Side::Joiner => self.bob.paired(),
        };
        Ok(paired.iter().map(|peer| HEXLOWER.encode(&peer.key)).collect())
    }

    fn id_of(&self, forger: &Forger) -> String {
        HEXLOWER.encode(&forger.identity.verifying_key().to_bytes())
    }

    fn request(&self, public: &Public, forger: &Forger) -> Result<Vec<Frame>> {
        let session = read(&public.record)?.session;
        let key = forger.identity.verifying_key().to_bytes();
        Ok(vec![Message::Request { session, key, name: "bob".to_owned() }.frame()?])
    }

    fn respond(&self, forger: &Forger, frame: &Frame) -> Result<Vec<Frame>> {
        match Message::read(frame)? {
            Message::Challenge { challenge, .. } => {
                Ok(vec![Message::Response(forger.identity.sign(&challenge).to_bytes()).frame()?])
            }
            Message::Request { .. } | Message::Response(_) | Message::Complete(_) => Ok(Vec::new()),
        }
    }

    fn reply(&self, forger: &Forger, frame: &Frame) -> Result<Vec<Frame>> {
        match Message::read(frame)? {
            Message::Request { .. } => {
                let key = forger.identity.verifying_key().to_bytes();
                Ok(vec![Message::Challenge { challenge: [7; 32], key, name: "alice".to_owned() }.frame()?])
            }
            Message::Response(_) => self.complete(),
            Message::Challenge { .. } | Message::Complete(_) => Ok(Vec::new()),
        }
    }

    fn complete(&self) -> Result<Vec<Frame>> {
        Ok(vec![Message::Complete(true).frame()?])
    }

    fn substitute(&self, forger: &mut Forger, _: bool, frame: Frame) -> Result<Frame> {
        let own = forger.identity.verifying_key().to_bytes();
        match Message::read(&frame)? {
            Message::Request { session, name, .. } => Message::Request { session, key: own, name }.frame(),
            Message::Challenge { challenge, name, .. } => {
                forger.heard = Some(challenge);
                Message::Challenge { challenge, key: own, name }.frame()
            }
            Message::Response(_) => {
                let challenge = forger.heard.context("a response before the challenge")?;
                Message::Response(forger.identity.sign(&challenge).to_bytes()).frame()
            }
            Message::Complete(_) => Ok(frame),
        }
    }

    fn borrow(&self, mallory: &Peer, public: &Public) -> Result<()> {
        let session: [u8; 16] = forge::random()?;
        let (tid, addresses) = (mallory.tid(), mallory.addresses().to_vec());
        ensure!(
            mallory.put(&seal(&NaiveAdvert { state: OPEN, session, tid, addresses }, 1)?)? > 0,
            "no node stored it"
        );
        let bob = Arc::clone(&self.bob);
        let joining = std::thread::spawn(move || bob.join(session));
        let inbound = mallory.accept(StreamProtocol::Pair, ANSWER)?;
        let Message::Request { key, name, .. } = Message::read(&mallory.frame(inbound.stream)?)? else {
            bail!("no request")
        };
        let elsewhere = Message::Request { session: read(&public.record)?.session, key, name };
        let conn = mallory.dial(Some(public.tid), &public.addresses)?;
        let stream = mallory.say(conn, StreamProtocol::Pair, vec![elsewhere.frame()?])?;
        mallory.send(inbound.stream, vec![mallory.frame(stream)?])?;
        mallory.send(stream, vec![mallory.frame(inbound.stream)?])?;
        mallory.close(inbound.stream)?;
        joining.join().ok().context("a naive device panicked")?.map(drop)
    }

    fn forge_record(&self, public: &Public, says: Says, tid: Tid, addresses: &[Address]) -> Result<Option<Record>> {
        let state = match says {
            Says::Open => OPEN,
            Says::Over => OVER,
        };
        let advert = NaiveAdvert { state, tid, addresses: addresses.to_vec(), ..read(&public.record)? };
        Ok(Some(seal(&advert, public.record.seq() + 1)?))
    }

    fn granted_record(&self, _: &Public, _: Tid, _: &[Address]) -> Result<Record> {
        anyhow::bail!("nothing needs to be granted against a naive device")
    }
}
