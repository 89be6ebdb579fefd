//! The store over restarts, with wrong keys, newer formats and full tables.

use handfast_proto::id::DeviceKey;
use handfast_proto::session::Role;
use handfast_proto::time::UnixTime;
use handfast_proto::wire::info::DeviceType;

use super::*;

fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

fn peer(id: u8, key: u8) -> PeerRow {
    PeerRow {
        pairing_id: PairingId([id; 16]),
        key: DeviceKey([key; 32]),
        role: Role::Joiner,
        state: PairState::Pending,
        secret: Secret::new([0x5a; 32]),
        name: "peer".to_owned(),
        label: None,
        kind: DeviceType::Phone,
        since: UnixTime(1),
        last_seen: None,
        path: None,
        addresses: vec!["/ip4/5.1.1.1/tcp/7".parse().expect("an address")],
        clock_offset: -5,
    }
}

#[test]
fn b22_identity_and_pairings_survive_a_restart_and_the_file_is_not_readable_in_clear() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("device");
    let (mut store, first) = Store::open(&home, rng(1)).expect("new store");
    store.put_peer(&peer(1, 9)).expect("stored");
    store.set_paired(PairingId([1; 16])).expect("paired");
    store.put_ports(Ports { udp: 4000, tcp: 4001 }).expect("ports");
    drop(store);
    let (_store, second) = Store::open(&home, rng(2)).expect("same store");
    assert!(second.identity.seed() == first.identity.seed());
    assert_eq!((first.start, second.start), (1, 2));
    assert_eq!(second.ports, Ports { udp: 4000, tcp: 4001 });
    let row = &second.peers[0];
    assert_eq!(row.state, PairState::Paired);
    assert!(row.secret == Secret::new([0x5a; 32]));
    assert_eq!(row.clock_offset, -5);
    assert_eq!(row.addresses.len(), 1);
    let bytes = std::fs::read(home.join("store.redb")).expect("the file");
    for needle in [[0x5a; 16].as_slice(), b"5a5a5a5a5a5a5a5a", &second.identity.seed().expose()[..16], b"peer\""] {
        assert!(!bytes.windows(needle.len()).any(|w| w == needle));
    }
}

#[test]
fn pairing_the_same_device_again_replaces_the_old_pairing_and_keeps_its_label() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(dir.path().join("d").as_path(), rng(1)).expect("new store");
    let mut old = peer(1, 9);
    old.label = Some("my phone".to_owned());
    old.state = PairState::Paired;
    store.put_peer(&old).expect("stored");
    store.put_peer(&peer(2, 9)).expect("stored");
    store.put_peer(&peer(3, 8)).expect("stored");
    assert_eq!(store.peers().expect("rows").len(), 3, "a pending one replaces nothing");
    assert_eq!(store.set_paired(PairingId([2; 16])).expect("paired"), [PairingId([1; 16])]);
    let peers = store.peers().expect("rows");
    assert_eq!(peers.len(), 2);
    let new = peers.iter().find(|p| p.pairing_id == PairingId([2; 16])).expect("the new one");
    assert_eq!(new.shown_name(), "my phone");
}

#[test]
fn attack_44_a_tombstone_wins_over_a_restored_pairing() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("d");
    let (mut store, _) = Store::open(&home, rng(1)).expect("new store");
    let row = peer(1, 9);
    store.put_peer(&row).expect("stored");
    let tombstone = Tombstone { pairing_id: row.pairing_id, peer: row.key, tag: Secret::new([3; 32]), seq: 1 };
    store.delete_peer(row.pairing_id, Some(&tombstone)).expect("deleted");
    store.put_peer(&row).expect("an old backup comes back");
    drop(store);
    let (mut store, loaded) = Store::open(&home, rng(2)).expect("same store");
    assert!(loaded.peers.is_empty());
    assert_eq!(loaded.tombstones.len(), 1);
    store.delete_tombstone(row.pairing_id).expect("acknowledged");
}

#[test]
fn a_missing_key_a_wrong_key_and_a_newer_format_are_refused_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("d");
    let (store, first) = Store::open(&home, rng(1)).expect("new store");
    assert!(matches!(Store::open(&home, rng(1)), Err(StoreError::Files(FilesError::Locked(_)))));
    drop(store);
    let key = std::fs::read(home.join("store.key")).expect("the key");
    std::fs::remove_file(home.join("store.key")).expect("removed");
    assert!(matches!(Store::open(&home, rng(1)), Err(StoreError::Key)));
    files::write_secret(&home.join("store.key"), &[7; 32]).expect("a wrong key");
    assert!(matches!(Store::open(&home, rng(1)), Err(StoreError::Key)));
    files::write_secret(&home.join("store.key"), &key).expect("the right key");
    let (store, second) = Store::open(&home, rng(1)).expect("same store");
    assert!(first.identity.seed() == second.identity.seed());
    let write = store.db.begin_write().expect("transaction");
    write.open_table(NUMBERS).expect("table").insert("format", FORMAT + 1).expect("inserted");
    write.commit().expect("committed");
    drop(store);
    assert!(matches!(Store::open(&home, rng(1)), Err(StoreError::Newer(2))));
}

#[test]
fn the_257th_pairing_is_refused_clearly() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(dir.path().join("d").as_path(), rng(1)).expect("new store");
    for n in 0..limits::MAX_PAIRINGS {
        let mut row = peer(0, 0);
        row.pairing_id.0[..2].copy_from_slice(&(n as u16).to_be_bytes());
        store.put_peer(&row).expect("stored");
    }
    assert!(matches!(store.put_peer(&peer(0xff, 1)), Err(StoreError::Full)));
}
