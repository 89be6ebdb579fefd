//! Each local network is what its name says, shown without the program that is tested.

use std::process::Command;
use std::time::Duration;

use handfast_lab::host::Host;
use handfast_lab::lan::observe::{addresses, listeners};
use handfast_lab::lan::probe::{connects, measure, ping};
use handfast_lab::lan::{LanLab, Profile};
use handfast_lab::process::{Running, Start};

use crate::in_lab;

#[test]
fn in_each_local_network_gets_through_what_its_name_says_and_nothing_else() {
    in_lab("local networks", || {
        for profile in Profile::ALL {
            let lab = LanLab::build(profile).expect("a lab");
            let reach = measure(&lab).expect("sockets");
            assert_eq!(reach, profile.reach(), "{}", profile.name());
        }
    });
}

#[test]
fn every_profile_is_found_by_its_name() {
    for profile in Profile::ALL {
        assert_eq!(Profile::named(profile.name()), Some(profile));
    }
    assert_eq!(Profile::named("lan-party"), None);
}

fn hosts(lab: &LanLab) -> (Host, Host) {
    (lab.host("alice").expect("alice"), lab.host("bob").expect("bob"))
}

/// What `ip route get` names as the way to a far address.
fn way_out(host: &Host) -> String {
    host.namespace().tool("ip", &["route", "get", "198.41.0.4"]).expect("a route")
}

#[test]
fn the_host_with_many_interfaces_has_the_same_container_address_as_its_peer_and_a_vpn_as_its_way_out() {
    in_lab("many interfaces", || {
        let lab = LanLab::build(Profile::LanMultiNic).expect("a lab");
        let (alice, bob) = hosts(&lab);
        let of = |host: &Host| -> Vec<String> {
            let own = addresses(host.namespace()).expect("addresses");
            own.iter().filter(|a| a.ip.is_ipv4()).map(|a| format!("{} {}/{}", a.interface, a.ip, a.prefix)).collect()
        };
        let mut all = of(&alice);
        all.sort_unstable();
        let expected = [
            "docker0 172.17.0.1/16",
            "eth0 192.168.77.11/24",
            "eth1 192.168.77.21/24",
            "vboxnet0 192.168.56.1/24",
            "vpn0 10.8.0.2/24",
        ];
        assert_eq!(all, expected);
        assert!(of(&bob).contains(&"docker0 172.17.0.1/16".to_owned()), "{:?}", of(&bob));
        assert!(way_out(&alice).contains("dev vpn0"), "{}", way_out(&alice));
        assert!(way_out(&bob).contains("dev eth0"), "{}", way_out(&bob));
        assert!(ping(alice.namespace(), "10.8.0.1".parse().expect("an address")), "the VPN's other end answers");
        let links = alice.namespace().tool("ip", &["-br", "link"]).expect("links");
        for interface in ["docker0", "vboxnet0", "vpn0", "eth1"] {
            let up = links.lines().any(|line| line.starts_with(interface) && line.contains("LOWER_UP"));
            assert!(up, "{interface} has a carrier: {links}");
        }
    });
}

#[test]
fn the_programs_of_a_host_find_their_own_interfaces_in_sysfs() {
    in_lab("sysfs", || {
        let lab = LanLab::build(Profile::LanMultiNic).expect("a lab");
        let (alice, _) = hosts(&lab);
        let start = Start {
            program: std::path::Path::new("/bin/sh"),
            args: vec!["-c".to_owned(), "echo $$; cd /sys/class/net; ls; ls docker0; cat vpn0/uevent".to_owned()],
            env: vec![],
            stdin: None,
        };
        let running = Running::start(&alice, &start).expect("sh");
        let pid = running.pid();
        let output = running.finish(Duration::from_secs(10)).expect("it ends");
        assert!(output.stdout.starts_with(&format!("{pid}\n")), "the program has the pid of its start: {output:?}");
        for expected in ["vboxnet0", "bridge\n", "DEVTYPE=vxlan"] {
            assert!(output.stdout.contains(expected), "{expected} in {output:?}");
        }
    });
}

#[test]
fn a_guest_of_the_hotspot_has_no_way_but_through_its_host() {
    in_lab("hotspot", || {
        let lab = LanLab::build(Profile::Hotspot).expect("a lab");
        let (alice, bob) = hosts(&lab);
        assert!(way_out(&bob).contains("via 192.168.43.1 dev eth0"), "{}", way_out(&bob));
        let operator = lab.host("operator").expect("the operator");
        let beyond = "10.20.30.1".parse().expect("an address");
        assert!(ping(bob.namespace(), beyond), "the telephone forwards");
        assert!(connects(bob.namespace(), operator.namespace(), beyond).expect("sockets"));
        assert!(!ping(operator.namespace(), "192.168.43.12".parse().expect("an address")), "and translates");
        assert!(way_out(&alice).contains("dev wwan0"));
    });
}

#[test]
fn isolated_devices_still_reach_their_gateway_and_whoever_is_not_isolated() {
    in_lab("isolation", || {
        let lab = LanLab::build(Profile::ClientIsolation).expect("a lab");
        let gateway = "192.168.77.1".parse().expect("an address");
        for name in ["alice", "bob", "mallory"] {
            let host = lab.host(name).expect("a host");
            assert!(ping(host.namespace(), gateway), "{name} reaches the gateway");
        }
        let mallory = lab.host("mallory").expect("mallory");
        for victim in ["alice", "bob"] {
            let address = lab.address(victim).expect("an address");
            assert!(ping(mallory.namespace(), address), "{victim} is not isolated from mallory");
        }
    });
}

#[test]
fn a_listener_is_seen_with_its_port_and_process() {
    in_lab("listeners", || {
        let lab = LanLab::build(Profile::Lan).expect("a lab");
        let (alice, _) = hosts(&lab);
        assert_eq!(listeners(alice.namespace()).expect("ss"), []);
        let bound = alice.namespace().enter(|| std::net::TcpListener::bind("[::]:0"));
        let bound = bound.expect("inside").expect("a free port");
        let seen = listeners(alice.namespace()).expect("ss");
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].port, bound.local_addr().expect("it is bound").port());
        assert!(seen[0].is_wildcard() && seen[0].process.contains(&format!("pid={}", std::process::id())), "{seen:?}");
    });
}

#[test]
fn a_dropped_local_network_leaves_nothing() {
    in_lab("clean-up", || {
        let lab = LanLab::build(Profile::LanMultiNic).expect("a lab");
        let (names, dir): (Vec<String>, _) = (
            ["alice", "bob", "mallory", "gateway", "nowhere"]
                .map(|name| lab.host(name).expect("a host").namespace().name().to_owned())
                .to_vec(),
            lab.dir().to_owned(),
        );
        drop(lab);
        assert!(!dir.exists());
        let list = Command::new("ip").args(["netns", "list"]).output().expect("ip");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(names.iter().all(|name| !list.contains(name.as_str())), "{list}");
    });
}
