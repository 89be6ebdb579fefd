//! The store over restarts, with wrong keys, newer formats and full tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handfast_proto::addr::Transport;
use handfast_proto::id::DeviceKey;
use handfast_proto::portmap::Method;
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

fn peers_of(store: &mut Store) -> Vec<PeerRow> {
    store.write(|sealed, rows| rows.peers(sealed)).expect("rows")
}

#[test]
fn b22_identity_and_pairings_survive_a_restart_and_the_file_is_not_readable_in_clear() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("device");
    let (mut store, first) = Store::open(&home, rng(1)).expect("new store");
    store.add_peer(&peer(1, 9)).expect("stored");
    store.set_paired(PairingId([1; 16])).expect("paired");
    store.put_ports(Ports { udp: 4000, tcp: 4001 }).expect("ports");
    let mapping = Mapping {
        gateway: [192, 168, 1, 1].into(),
        method: Method::Upnp,
        inside: "192.168.1.5:4000".parse().expect("an address"),
        transport: Transport::Quic,
        outside_port: 4000,
        nonce: [6; 12],
    };
    store.put_mappings(&[mapping, mapping]).expect("mappings");
    drop(store);
    let (_store, second) = Store::open(&home, rng(2)).expect("same store");
    assert!(second.identity.seed() == first.identity.seed());
    assert_eq!((first.start, second.start), (1, 2));
    assert_eq!(second.ports, Ports { udp: 4000, tcp: 4001 });
    assert_eq!((first.mappings.len(), second.mappings), (0, vec![mapping; 2]));
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
    store.add_peer(&old).expect("stored");
    store.add_peer(&peer(2, 9)).expect("stored");
    store.add_peer(&peer(3, 8)).expect("stored");
    assert_eq!(peers_of(&mut store).len(), 3, "a pending one replaces nothing");
    assert_eq!(store.set_paired(PairingId([2; 16])).expect("paired"), [PairingId([1; 16])]);
    let peers = peers_of(&mut store);
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
    store.add_peer(&row).expect("stored");
    let tombstone = Tombstone { pairing_id: row.pairing_id, peer: row.key, tag: Secret::new([3; 32]), seq: 1 };
    store.delete_peer(row.pairing_id, Some(&tombstone)).expect("deleted");
    store.write(|sealed, rows| rows.put(sealed, &row)).expect("an old backup comes back");
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
    let (mut store, second) = Store::open(&home, rng(1)).expect("same store");
    assert!(first.identity.seed() == second.identity.seed());
    let newer = |write: &WriteTransaction| {
        write.open_table(NUMBERS)?.insert("format", FORMAT + 1)?;
        Ok(())
    };
    store.db.write(newer).expect("committed");
    drop(store);
    assert!(matches!(Store::open(&home, rng(1)), Err(StoreError::Newer(2))));
}

/// B36: a hint about free space would help nobody.
#[test]
fn b36_a_damaged_store_says_that_it_is_damaged_and_what_helps() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("d");
    drop(Store::open(&home, rng(1)).expect("new store"));
    let path = home.join("store.redb");
    let mut bytes = std::fs::read(&path).expect("the file");
    bytes[..4096].fill(0xaa);
    std::fs::write(&path, bytes).expect("written");
    let failed = Store::open(&home, rng(1)).err().expect("refused");
    let error = Error::from(&failed);
    assert_eq!(error.cause, Cause::Storage);
    assert!(error.hint.contains("backup") && error.hint.contains("new device"), "{error:?} of {failed:?}");
}

#[test]
fn the_257th_pairing_is_refused_clearly() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(dir.path().join("d").as_path(), rng(1)).expect("new store");
    for n in 0..limits::MAX_PAIRINGS {
        let mut row = peer(0, 0);
        row.pairing_id.0[..2].copy_from_slice(&(n as u16).to_be_bytes());
        store.add_peer(&row).expect("stored");
    }
    assert!(matches!(store.add_peer(&peer(0xff, 1)), Err(StoreError::Full)));
}

#[test]
fn b22_a_first_start_on_a_full_disk_leaves_nothing_that_a_later_one_stumbles_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("d");
    let full = Arc::new(AtomicBool::new(true));
    for _ in 0..2 {
        let failed = Store::open_with(&home, rng(1), db::faults::on_full_disk(&full), Purpose::Run);
        assert!(matches!(failed, Err(StoreError::Database(_))));
        assert!(!home.join("store.redb").exists());
    }
    full.store(false, Ordering::SeqCst);
    let (store, first) =
        Store::open_with(&home, rng(2), db::faults::on_full_disk(&full), Purpose::Run).expect("there is room now");
    drop(store);
    let (_, second) = Store::open(&home, rng(3)).expect("same store");
    assert!(first.identity.seed() == second.identity.seed());
    assert_eq!(second.start, 2);
}

/// What earlier versions left behind after such a start.
#[test]
fn b22_a_database_without_a_single_byte_is_one_that_was_never_made() {
    for length in [0, 9, 1_589_248] {
        for has_key in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let home = dir.path().join("d");
            files::open_folder(&home).expect("a folder");
            let file = files::open_private(&home.join("store.redb")).expect("a file");
            file.set_len(length).expect("a length");
            if has_key {
                files::write_secret(&home.join("store.key"), &[7; 32]).expect("a key");
            }
            let (store, first) = Store::open(&home, rng(1)).expect("a new store");
            drop(store);
            let (_, second) = Store::open(&home, rng(2)).expect("same store");
            assert!(first.identity.seed() == second.identity.seed());
        }
    }
}

#[test]
fn b22_a_store_goes_on_when_its_disk_has_room_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("d");
    let full = Arc::new(AtomicBool::new(false));
    let (mut store, _) =
        Store::open_with(&home, rng(1), db::faults::on_full_disk(&full), Purpose::Run).expect("new store");
    store.add_peer(&peer(1, 9)).expect("stored");
    full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(store.add_peer(&peer(2, 8)), Err(StoreError::Database(_))));
        assert!(matches!(store.set_paired(PairingId([1; 16])), Err(StoreError::Database(_))));
    }
    full.store(false, Ordering::SeqCst);
    store.add_peer(&peer(3, 7)).expect("stored");
    store.set_paired(PairingId([1; 16])).expect("paired");
    let states: Vec<(u8, PairState)> = peers_of(&mut store).iter().map(|p| (p.pairing_id.0[0], p.state)).collect();
    assert_eq!(states, [(1, PairState::Paired), (3, PairState::Pending)]);
    drop(store);
    assert_eq!(Store::open(&home, rng(2)).expect("same store").1.peers.len(), 2);
}

#[test]
fn what_is_changed_in_a_row_leaves_the_rest_of_it_and_brings_nothing_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(dir.path().join("d").as_path(), rng(1)).expect("new store");
    let id = PairingId([1; 16]);
    store.add_peer(&peer(1, 9)).expect("stored");
    let contact = Contact { addresses: Vec::new(), clock_offset: 77, seen: UnixTime(5), path: "direct".to_owned() };
    store.set_paired(id).expect("paired");
    store.set_label(id, "my phone").expect("renamed");
    store.set_contact(id, &contact).expect("met");
    let row = peers_of(&mut store).remove(0);
    assert_eq!((row.shown_name(), row.state, row.clock_offset), ("my phone", PairState::Paired, 77));
    assert_eq!((row.last_seen, row.path.as_deref(), row.addresses.len()), (Some(UnixTime(5)), Some("direct"), 0));
    store.delete_peer(id, None).expect("removed");
    store.set_contact(id, &contact).expect("too late, which is no failure");
    assert!(matches!(store.set_label(id, "my phone"), Err(StoreError::Unknown)));
    assert!(peers_of(&mut store).is_empty());
}

#[test]
fn a_name_of_a_pairing_is_used_once_also_after_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut store, _) = Store::open(dir.path().join("d").as_path(), rng(1)).expect("new store");
    let row = peer(1, 9);
    store.add_peer(&row).expect("stored");
    assert!(matches!(store.add_peer(&peer(1, 8)), Err(StoreError::Exists)));
    let tombstone = Tombstone { pairing_id: row.pairing_id, peer: row.key, tag: Secret::new([3; 32]), seq: 1 };
    store.delete_peer(row.pairing_id, Some(&tombstone)).expect("deleted");
    assert!(matches!(store.add_peer(&peer(1, 8)), Err(StoreError::Exists)));
}
