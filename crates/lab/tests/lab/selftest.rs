//! Links, namespaces and captures do what the measurements rely on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use handfast_lab::capture::Capture;
use handfast_lab::leak::Needles;
use handfast_lab::nat::Nat;
use handfast_lab::ns::{LabName, Namespace, ip, remove_leftovers};
use handfast_lab::process::{Running, Start};
use handfast_lab::procfs::Sample;
use handfast_lab::stats::Summary;
use handfast_lab::topology::{AccessHost, Lab};

use crate::in_lab;
use crate::traffic::{Echo, numbered, round_trips, socket, transfer};

fn two_hosts(delay: Duration) -> (Lab, AccessHost, AccessHost) {
    let lab = Lab::two_networks(0).delay(delay).build().expect("a lab");
    let (alice, bob) = (lab.host("alice").expect("alice"), lab.host("bob").expect("bob"));
    (lab, alice, bob)
}

/// 25 ms one way means 50 ms a round trip, to within 1 ms each way.
#[test]
fn a_round_trip_takes_four_access_delays_on_ipv4_and_ipv6() {
    in_lab("round trips", || {
        let (_lab, alice, bob) = two_hosts(Duration::from_micros(12_500));
        for (from, to) in [(alice.ipv4().into(), bob.ipv4().into()), (alice.ipv6().into(), bob.ipv6().into())] {
            let echo = Echo::start(&bob, to);
            let times = Summary::of(&round_trips(&alice, from, echo.address, 40)).expect("answers");
            eprintln!("{to}: {times:?}");
            assert_eq!(times.count, 40);
            assert!(times.min_ms >= 50.0 && times.median_ms <= 52.0, "{times:?}");
        }
    });
}

#[test]
fn a_delay_changes_while_the_link_runs_and_may_be_zero_for_one_host() {
    in_lab("changed delay", || {
        let lab = Lab::two_networks(0).host_delay("alice", Duration::ZERO).build().expect("a lab");
        let (alice, bob) = (lab.host("alice").expect("alice"), lab.host("bob").expect("bob"));
        let echo = Echo::start(&bob, bob.ipv4().into());
        let median = || {
            let times = round_trips(&alice, alice.ipv4().into(), echo.address, 15);
            Summary::of(&times).expect("answers").median_ms
        };
        let one_sided = median();
        assert!((25.0..27.0).contains(&one_sided), "{one_sided}");
        bob.link().set_delay(Duration::ZERO);
        let none = median();
        assert!(none < 2.0, "{none}");
        bob.link().b_to_a.set_delay(Duration::from_millis(10));
        let one_way = median();
        assert!((10.0..12.0).contains(&one_way), "{one_way}");
    });
}

#[test]
fn a_network_without_udp_lets_tcp_and_dns_through_and_nothing_else() {
    in_lab("no UDP", || {
        let lab = Lab::empty().behind(Nat::NoUdp, "inside").host("outside").build().expect("a lab");
        let (inside, outside) = (lab.host("inside").expect("a host"), lab.host("outside").expect("a host"));
        let answers = |echo: &Echo| round_trips(&inside, Ipv4Addr::UNSPECIFIED.into(), echo.address, 2).len();
        assert_eq!(answers(&Echo::start(&outside, outside.ipv4().into())), 0);
        assert_eq!(answers(&Echo::start_at(&outside, (outside.ipv4(), 53).into())), 2);
        transfer(&inside, &outside, &[7; 100_000]);
    });
}

#[test]
fn a_network_for_the_web_alone_lets_out_what_goes_to_its_port() {
    in_lab("only port 443", || {
        let lab = Lab::empty().behind(Nat::Only443, "inside").host("outside").build().expect("a lab");
        let (inside, outside) = (lab.host("inside").expect("a host"), lab.host("outside").expect("a host"));
        let connects = |port: u16| {
            let at = SocketAddr::from((outside.ipv4(), port));
            let listener = outside.namespace().enter(|| TcpListener::bind(at)).expect("the namespace exists");
            let limit = Duration::from_millis(500);
            let connected = inside.namespace().enter(|| TcpStream::connect_timeout(&at, limit));
            let connected = connected.expect("the namespace exists").is_ok();
            drop(listener);
            connected
        };
        assert!(connects(443));
        assert!(!connects(444));
    });
}

#[test]
fn global_addresses_behind_a_router_are_reached_by_everybody_or_answered_to_alone() {
    in_lab("IPv6 behind a router", || {
        let mut builder = Lab::empty().host("outside");
        let kinds = [(Nat::Ipv6, true), (Nat::Ipv6Firewall, false), (Nat::Ipv6Only, false)];
        for (nat, _) in kinds {
            builder = builder.behind(nat, nat.name());
        }
        let lab = builder.build().expect("a lab");
        let outside = lab.host("outside").expect("a host");
        let connects = |from: &AccessHost, to: &AccessHost, at: SocketAddr| {
            let listener = to.namespace().enter(|| TcpListener::bind(at)).expect("the namespace exists");
            let limit = Duration::from_millis(500);
            let connected = from.namespace().enter(|| TcpStream::connect_timeout(&at, limit));
            let connected = connected.expect("the namespace exists").is_ok();
            drop(listener);
            connected
        };
        for (nat, lets_in) in kinds {
            let inside = lab.host(nat.name()).expect("a host");
            assert_eq!(connects(&outside, &inside, (inside.ipv6(), 4_000).into()), lets_in, "{nat:?}");
            assert!(connects(&inside, &outside, (outside.ipv6(), 4_000).into()), "{nat:?}");
            assert_eq!(connects(&inside, &outside, (outside.ipv4(), 4_000).into()), nat.has_ipv4(), "{nat:?}");
        }
    });
}

#[test]
fn loss_takes_its_share_and_nothing_else() {
    in_lab("loss", || {
        let (_lab, alice, bob) = two_hosts(Duration::ZERO);
        assert_eq!(numbered(&alice, &bob, 1000).len(), 1000, "without loss everything arrives");
        alice.link().a_to_b.set_loss(0.3);
        let arrived = numbered(&alice, &bob, 3000).len();
        assert!((1950..2250).contains(&arrived), "{arrived} of 3000 with 30 % loss");
    });
}

#[test]
fn a_cut_stops_everything_until_the_link_is_restored() {
    in_lab("cut", || {
        let (_lab, alice, bob) = two_hosts(Duration::from_millis(1));
        let echo = Echo::start(&bob, bob.ipv4().into());
        let answers = |count| round_trips(&alice, alice.ipv4().into(), echo.address, count).len();
        assert_eq!(answers(5), 5);
        bob.link().cut();
        assert_eq!(answers(2), 0);
        bob.link().restore();
        assert_eq!(answers(5), 5);
        bob.link().a_to_b.set_cut(true);
        assert_eq!(answers(2), 0, "one direction is enough to stop answers");
    });
}

#[test]
fn frames_arrive_twice_or_out_of_order_when_asked() {
    in_lab("duplicates", || {
        let (_lab, alice, bob) = two_hosts(Duration::ZERO);
        let in_order = numbered(&alice, &bob, 500);
        assert!(in_order.is_sorted() && in_order.len() == 500, "a link keeps the order");
        alice.link().a_to_b.set_duplicate(0.5);
        let twice = numbered(&alice, &bob, 1000).len();
        assert!((1400..1600).contains(&twice), "{twice} of 1000 with half of them twice");
        alice.link().a_to_b.set_duplicate(0.0);
        alice.link().a_to_b.set_reorder(0.2);
        let mut mixed = numbered(&alice, &bob, 1000);
        assert!(!mixed.is_sorted() && mixed.len() == 1000);
        mixed.sort_unstable();
        assert!(mixed.into_iter().eq(0..1000));
    });
}

#[test]
fn a_transfer_arrives_whole_in_frames_no_longer_than_the_mtu() {
    in_lab("transfer", || {
        let (_lab, alice, bob) = two_hosts(Duration::from_millis(1));
        let bytes: Vec<u8> = (0..8 << 20_u32).map(|index: u32| index.to_le_bytes()[index as usize % 3]).collect();
        let took = transfer(&alice, &bob, &bytes);
        eprintln!("8 MiB in {took:?}");
        for direction in [&alice.link().a_to_b, &alice.link().b_to_a, &bob.link().a_to_b, &bob.link().b_to_a] {
            assert_eq!(direction.counters().oversize, 0);
        }
        let frames = alice.link().a_to_b.counters().delivered;
        assert!((5_600..12_000).contains(&frames), "{frames} frames for 8 MiB");
    });
}

/// A frame that the emulator hands to an interface must not be taken from it again.
#[test]
fn twenty_four_idle_links_carry_nothing_and_use_no_processor() {
    in_lab("idle links", || {
        let lab = Lab::two_networks(21).build().expect("a lab");
        let (alice, bob) = (lab.host("alice").expect("alice"), lab.host("bob").expect("bob"));
        let echo = Echo::start(&bob, bob.ipv4().into());
        assert_eq!(round_trips(&alice, alice.ipv4().into(), echo.address, 3).len(), 3);
        drop(echo);
        let frames = || -> u64 {
            let hosts = lab.nodes().into_iter().chain([alice.clone(), bob.clone()]);
            hosts.map(|host| host.link().a_to_b.counters().delivered + host.link().b_to_a.counters().delivered).sum()
        };
        std::thread::sleep(Duration::from_millis(500));
        let (before, start, sample) = (frames(), Instant::now(), Sample::of(std::process::id()).expect("we run"));
        std::thread::sleep(Duration::from_secs(3));
        let share = sample.cpu_share_until(&Sample::of(std::process::id()).expect("we run"), start.elapsed());
        eprintln!("idle: {:.2} % of a processor, {} frames", share * 100.0, frames() - before);
        assert!(share <= 0.01, "{share}");
        assert!(frames() - before < 50, "{} frames on idle links", frames() - before);
    });
}

#[test]
fn an_observer_on_the_backbone_sees_what_was_sent_in_any_encoding() {
    in_lab("capture", || {
        let (lab, alice, bob) = two_hosts(Duration::from_millis(1));
        let secret: Vec<u8> = (0..32_u8).map(|byte| byte.wrapping_mul(37) ^ 0x5a).collect();
        let mut needles = Needles::default();
        needles.add_bytes("key", &secret);
        let send = |payloads: &[Vec<u8>]| {
            let capture = Capture::start(lab.backbone(), "any", &lab.dir().join("wire.pcap")).expect("tcpdump");
            let (from, to) = (socket(&alice, alice.ipv4().into()), socket(&bob, bob.ipv4().into()));
            let address = to.local_addr().expect("it is bound");
            for payload in payloads {
                from.send_to(payload, address).expect("a route");
                to.recv(&mut [0; 2048]).expect("it arrives");
            }
            capture.stop().expect("a capture")
        };
        let clean = send(&[b"nothing to see".to_vec(), vec![7; 1000]]);
        assert!(clean.lost == 0 && clean.packets.len() >= 4, "each packet comes in and goes out");
        assert_eq!(clean.search(&needles), []);
        let padded = [b"x".as_slice(), &secret].concat();
        let encoded = data_encoding::BASE64.encode(&padded).into_bytes();
        let (first, second) = encoded.split_at(20);
        let leaky = send(&[first.to_vec(), second.to_vec()]);
        let found = leaky.search(&needles);
        assert!(found.iter().all(|finding| finding.place.starts_with("flow")), "it was split over two packets");
        assert!(found.iter().any(|finding| finding.needle.contains("base64")), "{found:?}");
    });
}

#[test]
fn a_dropped_lab_leaves_no_namespace_and_no_process() {
    in_lab("clean-up", || {
        let (lab, alice, bob) = two_hosts(Duration::ZERO);
        let name = alice.namespace().name().to_owned();
        let dir = lab.dir().to_owned();
        let mut stray = Command::new("sleep");
        stray.arg("600");
        let mut stray = alice.namespace().enter(|| stray.spawn()).expect("inside").expect("sleep");
        assert_eq!(alice.namespace().processes(), vec![stray.id()]);
        drop((lab, alice, bob));
        assert!(!std::path::Path::new("/run/netns").join(&name).exists());
        assert!(!dir.exists());
        assert!(!stray.wait().expect("it was ours").success());
    });
}

#[test]
fn what_a_dead_lab_left_is_removed_and_what_a_living_one_has_stays() {
    in_lab("leftovers", || {
        let mut ended = Command::new("true").spawn().expect("true");
        let dead = format!("hf{}-0-left", ended.id());
        ended.wait().expect("it was ours");
        ip(&["netns", "add", &dead]).expect("a namespace");
        let dir = std::env::temp_dir().join(&dead);
        std::fs::create_dir(&dir).expect("a directory");
        let mut stray = Command::new("ip").args(["netns", "exec", &dead, "sleep", "600"]).spawn().expect("sleep");
        let living = Namespace::create(&LabName::unique(), "kept").expect("a namespace");
        remove_leftovers().expect("removed");
        assert!(!dir.exists());
        stray.kill().expect("killed already, or not yet inside");
        stray.wait().expect("it was ours");
        assert!(!std::path::Path::new("/run/netns").join(&dead).exists());
        assert!(std::path::Path::new("/run/netns").join(living.name()).exists());
    });
}

#[test]
fn a_program_has_a_clean_environment_and_its_lines_have_times() {
    in_lab("programs", || {
        let (_lab, alice, _bob) = two_hosts(Duration::ZERO);
        let script = r#"env; read line; echo "{\"event\":\"heard\",\"line\":\"$line\"}"; sleep 0.2; echo "{\"event\":\"later\"}"; echo talk >&2; exit 3"#;
        let start = Start {
            program: std::path::Path::new("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("HOME".to_owned(), alice.home().display().to_string())],
            stdin: Some("hello\n"),
        };
        let running = Running::start(&alice, &start).expect("sh");
        let limit = Duration::from_secs(10);
        let (heard, later) =
            (running.wait_event("heard", limit).expect("heard"), running.wait_event("later", limit).expect("later"));
        assert_eq!(heard.text("line").expect("a field"), "hello");
        assert!(later.at - heard.at >= Duration::from_millis(190));
        assert!(running.wait_event("never", limit).is_err());
        let output = running.finish(limit).expect("it ends");
        assert_eq!((output.code(), output.stderr.trim()), (Some(3), "talk"));
        assert!(output.stdout.contains(&format!("HOME={}", alice.home().display())));
        assert!(!output.stdout.contains("CARGO"), "{}", output.stdout);
        let endless = Start { program: std::path::Path::new("/bin/sleep"), args: vec!["600".to_owned()], ..start };
        let endless = Running::start(&alice, &Start { stdin: None, ..endless }).expect("sleep");
        assert_eq!(alice.namespace().processes(), vec![endless.pid()]);
        assert!(endless.finish(Duration::from_millis(50)).is_err());
        assert!(alice.namespace().processes().is_empty());
    });
}
