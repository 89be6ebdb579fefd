//! The presence record (section 10.4): how two paired devices find each other in the DHT, day by day, without anybody
//! else being able to tell that they do.

use crate::crypto::Kdf;
use crate::id::{DeviceKey, Identity, PairingId, Tid};
use crate::limits::PERIOD_SECONDS;
use crate::link::hello::pairing_kdf;
use crate::secret::{Rng, Secret};
use crate::session::Role;
use crate::time::UnixTime;
use crate::wire::advert::{Advert, AdvertState};
use crate::wire::record::{MAX_TTL, Record, RecordKeys, Topic};
use crate::wire::{Malformed, Reader};

/// Makes and opens the presence records of one pairing.
pub(super) struct Presence {
    kdf: Kdf,
    pairing_id: PairingId,
    peer: DeviceKey,
    /// Our side at the pairing: it names the direction.
    role: Role,
}

impl Presence {
    pub(super) fn new(pairing_id: PairingId, peer: DeviceKey, role: Role, pair_secret: &Secret<32>) -> Presence {
        Presence { kdf: pairing_kdf(pair_secret), pairing_id, peer, role }
    }

    /// Periods under which we publish: that of our clock and, as the joiner counts in the initiator's time, that of the
    /// peer's clock as we know it.
    pub(super) fn own_periods(&self, now: UnixTime, offset: i64) -> Vec<u32> {
        let mut periods = vec![period(now)];
        if self.role == Role::Joiner {
            periods.push(period(now.moved_by(offset)));
        }
        periods.dedup();
        periods
    }

    /// Periods under which the peer may have published, likeliest first: at most six.
    pub(super) fn peer_periods(&self, now: UnixTime, offset: i64) -> Vec<u32> {
        let (own, corrected) = (period(now), period(now.moved_by(offset)));
        let mut periods = Vec::new();
        for candidate in [corrected, own, corrected.saturating_add(1), corrected.saturating_sub(1)]
            .into_iter()
            .chain([own.saturating_add(1), own.saturating_sub(1)])
        {
            if !periods.contains(&candidate) {
                periods.push(candidate);
            }
        }
        periods
    }

    /// Where the peer's record of `period` lies.
    pub(super) fn peer_topic(&self, period: u32) -> Topic {
        self.keys(self.peer_direction(), period).topic()
    }

    /// Our record for `period`.
    pub(super) fn seal(&self, advert: &Advert, period: u32, seq: u64, identity: &Identity, rng: &mut Rng) -> Record {
        let keys = self.keys(direction(self.role), period);
        let topic = keys.topic();
        let mut plain = advert.to_bytes(rng.bytes());
        let parts: [&[u8]; 4] = [&self.pairing_id.0, &topic.0, &seq.to_be_bytes(), &advert.tid.0];
        plain.extend_from_slice(&identity.sign("pres", &parts));
        keys.seal(&plain, seq, MAX_TTL, rng)
    }

    /// Opens a record of the peer: its seal, layout and the signature of its identity key are checked.
    pub(super) fn open(&self, record: &Record, period: u32) -> Result<Advert, Malformed> {
        let keys = self.keys(self.peer_direction(), period);
        let plain = keys.open(record)?;
        let mut reader = Reader::new(&plain);
        let advert = Advert::read(&mut reader)?;
        let signature = reader.array()?;
        reader.zeros()?;
        let Tid(tid) = advert.tid;
        let parts: [&[u8]; 4] = [&self.pairing_id.0, &record.topic().0, &record.seq().to_be_bytes(), &tid];
        if advert.state != AdvertState::Open || !self.peer.verify("pres", &parts, &signature) {
            return Err(Malformed);
        }
        Ok(advert)
    }

    fn peer_direction(&self) -> u8 {
        direction(match self.role {
            Role::Initiator => Role::Joiner,
            Role::Joiner => Role::Initiator,
        })
    }

    fn keys(&self, direction: u8, period: u32) -> RecordKeys {
        let context: [&[u8]; 2] = [&[direction], &period.to_be_bytes()];
        RecordKeys::new(&self.kdf.expand("pres sig", &context), self.kdf.expand("pres key", &context))
    }
}

/// 1: the record of the one that was the joiner; 2: of the initiator.
fn direction(role: Role) -> u8 {
    match role {
        Role::Joiner => 1,
        Role::Initiator => 2,
    }
}

fn period(now: UnixTime) -> u32 {
    u32::try_from(now.0 / PERIOD_SECONDS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: u8) -> Identity {
        Identity::from_seed(Secret::new([n; 32]))
    }

    fn sides() -> (Presence, Presence) {
        let secret = Secret::new([9; 32]);
        let id = PairingId([7; 16]);
        let joiner = Presence::new(id, identity(2).public(), Role::Joiner, &secret);
        let initiator = Presence::new(id, identity(1).public(), Role::Initiator, &secret);
        (joiner, initiator)
    }

    fn advert() -> Advert {
        Advert { tid: Tid([4; 32]), ..Advert::tombstone(AdvertState::Open) }
    }

    #[test]
    fn each_side_opens_the_others_record_and_nobody_elses() {
        let (joiner, initiator) = sides();
        let mut rng = Rng::from_seed(Secret::new([1; 32]));
        let record = joiner.seal(&advert(), 100, 5, &identity(1), &mut rng);
        assert_eq!(record.topic(), initiator.peer_topic(100));
        assert_eq!(initiator.open(&record, 100), Ok(advert()));
        assert!(joiner.open(&record, 100).is_err(), "its own direction");
        assert!(initiator.open(&record, 101).is_err(), "another period");
        // A thief of the pairing's secret has no identity key.
        let forged = joiner.seal(&advert(), 100, 6, &identity(3), &mut rng);
        assert!(initiator.open(&forged, 100).is_err());
    }

    #[test]
    fn c24_clocks_a_day_apart_still_meet_in_some_period() {
        let (joiner, initiator) = sides();
        let day = PERIOD_SECONDS as i64;
        for apart in [-day, -3600, 0, 3600, day] {
            for hour in 0..24 {
                let time_i = UnixTime(1_800_000_000 + hour * 3600);
                let time_j = time_i.moved_by(apart);
                // The offsets of the last contact, when the clocks still agreed.
                let published = joiner.own_periods(time_j, 0);
                assert!(initiator.peer_periods(time_i, 0).iter().any(|p| published.contains(p)));
                let published = initiator.own_periods(time_i, 0);
                assert!(joiner.peer_periods(time_j, 0).iter().any(|p| published.contains(p)));
            }
        }
        assert!(joiner.peer_periods(UnixTime(0), 10 * day).len() <= 6);
    }
}
