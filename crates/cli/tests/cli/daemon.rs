//! `start` and `stop`: one device an instance, gone without a trace when it has stopped.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use rustix::process::Signal;

use crate::support::{Home, LISTEN, names};

/// Stops what a failed test has left running.
struct Stops<'a>(&'a Home);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.run("alice", &["stop"]);
    }
}

/// B42.
#[test]
fn start_detaches_when_the_socket_answers_and_stop_waits_for_the_end() {
    let home = Home::new();
    let _stops = Stops(&home);
    let args = [&["start", "--enable-networking", "--name", "kitchen"], LISTEN.as_slice()].concat();
    let started = home.run("alice", &args);
    assert_eq!(started.exit(), Some(0), "{:?}", started.errors);
    assert_eq!(started.lines, ["kitchen, instance \"alice\", runs"]);
    let status = home.ask("alice", &["status"]);
    assert_eq!((status["name"].as_str(), status["running"].as_bool()), (Some("kitchen"), Some(true)));

    for again in [["start"].as_slice(), &["start", "--foreground"]] {
        let again = home.run("alice", again);
        assert_eq!(again.exit(), Some(10), "{:?}", again.errors);
        assert_eq!(again.errors[0], "error: the instance \"alice\" is running already");
    }
    let dir = home.instance("alice");
    let mode = |name: &str| std::fs::metadata(dir.join(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("control.sock"), mode("log"), mode("log/handfast.log")), (0o600, 0o700, 0o600));

    assert_eq!(home.run("alice", &["stop"]).exit(), Some(0));
    assert_eq!(names(&dir), ["lock", "log", "store.key", "store.redb"]);
    assert_eq!(home.run("alice", &["stop"]).exit(), Some(10));
    assert!(std::fs::read_to_string(dir.join("log/handfast.log")).expect("a log").contains("the device has stopped"));
}

#[test]
fn b42_two_instances_are_two_devices() {
    let home = Home::new();
    let args = [&["start", "--foreground", "--json", "--no-dht", "--no-lan"], LISTEN.as_slice()].concat();
    let (alice, bob) = (home.start("alice", &args), home.start("bob", &args));
    let (at_alice, at_bob) = (alice.event("started"), bob.event("started"));
    assert_ne!(at_alice["id"], at_bob["id"]);
    assert_eq!((at_alice["instance"].as_str(), at_bob["instance"].as_str()), (Some("alice"), Some("bob")));
    assert_eq!(home.ask("alice", &["status"])["id"], at_alice["id"]);
}

/// Section 13 of the protocol: where the system allows it, nothing of a device reaches the swap space.
#[test]
fn memory_is_locked_where_nothing_limits_that_and_a_limit_is_no_obstacle() {
    /// The right to lock memory beyond the limit (capabilities(7)).
    const CAP_IPC_LOCK: u32 = 14;

    let field = |status: &str, name: &str| -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of it");
        line.trim().trim_end_matches(" kB").to_owned()
    };
    let own = std::fs::read_to_string("/proc/self/status").expect("our status");
    let rights = u64::from_str_radix(&field(&own, "CapEff:"), 16).expect("a set of rights");
    let unlimited = rustix::process::getrlimit(rustix::process::Resource::Memlock).maximum.is_none();
    let home = Home::new();
    let args = [&["start", "--foreground", "--json", "--no-dht", "--no-lan"], LISTEN.as_slice()].concat();
    let alice = home.start("alice", &args);
    alice.event("started");
    let status = std::fs::read_to_string(format!("/proc/{}/status", alice.pid())).expect("its status");
    let locked: u64 = field(&status, "VmLck:").parse().expect("a number");
    assert_eq!(locked > 0, unlimited || rights & (1 << CAP_IPC_LOCK) != 0, "{locked} kB");
}

#[test]
fn signals_end_it_cleanly_and_a_killed_one_leaves_nothing_in_the_way() {
    let home = Home::new();
    let args = [&["start", "--foreground", "--json"], LISTEN.as_slice()].concat();
    let socket = home.instance("alice").join("control.sock");
    let mut ids = Vec::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let daemon = home.start("alice", &args);
        ids.push(daemon.event("started")["id"].clone());
        daemon.signal(signal);
        assert_eq!(daemon.end().exit(), Some(0), "{signal:?}");
        assert!(!socket.exists(), "{signal:?}");
    }
    let daemon = home.start("alice", &args);
    ids.push(daemon.event("started")["id"].clone());
    daemon.kill();
    assert!(std::fs::symlink_metadata(&socket).expect("left behind").file_type().is_socket());
    assert_eq!(home.run("alice", &["status"]).exit(), Some(10));
    let daemon = home.start("alice", &args);
    ids.push(daemon.event("started")["id"].clone());
    assert!(ids.iter().all(|id| *id == ids[0]), "the identity stays: {ids:?}");
    assert_eq!(home.run("alice", &["stop"]).exit(), Some(0));
    assert_eq!(daemon.end().exit(), Some(0));
}
