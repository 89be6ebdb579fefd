//! Routers of every kind on loopback: each test has an address of its own, since the ports are given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handfast_proto::addr::Transport;
use handfast_proto::portmap::Mapping;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// What all of them have to do with, and some slack for a busy machine.
const END: Duration = Duration::from_secs(5);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(5, 1, 2, 3);
const HTTP: u16 = 8_200;

fn router(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 88, 0, n)
}

fn job(n: u8, method: Method, task: Task) -> Job {
    let inside = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4_001);
    let (gateway, transport) = (router(n), Transport::Quic);
    Job { mapping: Mapping { gateway, method, inside, transport, outside_port: 4_001, nonce: [9; 12] }, task }
}

const MAP: Task = Task::Map { lease: 600 };

/// A router that answers each packet with these.
async fn packets(n: u8, answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> JoinSet<()> {
    let socket = UdpSocket::bind((router(n), PORT)).await.expect("its port");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 2_000];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            for answer in answers(&buffer[..len]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    tasks
}

fn pcp_granted(request: &[u8]) -> Vec<u8> {
    let mut out = request.to_vec();
    out[1] |= 0x80;
    out[42..44].copy_from_slice(&61_000u16.to_be_bytes());
    out[44..60].copy_from_slice(&PUBLIC.to_ipv6_mapped().octets());
    out
}

fn pmp_granted(request: &[u8]) -> Vec<u8> {
    let head = [&[0, 0x80 | request[1], 0, 0], [0u8; 4].as_slice()].concat();
    match request[1] {
        0 => [head, PUBLIC.octets().to_vec()].concat(),
        _ => [&head, &request[4..6], &61_000u16.to_be_bytes(), &request[8..12]].concat(),
    }
}

#[tokio::test]
async fn a_router_that_speaks_pcp_or_nat_pmp_maps_and_forgets() {
    let _router =
        packets(1, |request| vec![if request[0] == 2 { pcp_granted(request) } else { pmp_granted(request) }]).await;
    let outside = SocketAddrV4::new(PUBLIC, 61_000);
    for method in [Method::Pcp, Method::NatPmp] {
        assert_eq!(run(job(1, method, MAP)).await, Outcome::Mapped(Granted { outside, lease: 600 }));
        assert_eq!(run(job(1, method, Task::Unmap)).await, Outcome::Removed);
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again_and_nobody_is_waited_for_long() {
    let asked = AtomicUsize::new(0);
    let _router =
        packets(
            2,
            move |request| {
                if asked.fetch_add(1, Ordering::Relaxed) == 0 { Vec::new() } else { vec![pcp_granted(request)] }
            },
        )
        .await;
    assert!(matches!(run(job(2, Method::Pcp, MAP)).await, Outcome::Mapped(_)));
    assert_eq!(run(job(3, Method::Pcp, MAP)).await, Outcome::Failed(Refusal::Unsupported), "nobody listens there");
    let _silent = packets(4, |_| Vec::new()).await;
    let start = Instant::now();
    assert_eq!(run(job(4, Method::NatPmp, MAP)).await, Outcome::Failed(Refusal::Silent));
    assert!(start.elapsed() < END);
}

#[tokio::test]
async fn floods_and_garbage_end_in_time_and_map_nothing() {
    let garbage = |request: &[u8]| {
        let mut other_nonce = pcp_granted(request);
        other_nonce.truncate(60);
        if let Some(byte) = other_nonce.get_mut(24) {
            *byte ^= 1;
        }
        let mut answers = vec![Vec::new(), vec![0; 2_000], vec![0xff; 60], request.to_vec(), other_nonce];
        answers.extend((0..200).map(|n| vec![n; usize::from(n)]));
        answers
    };
    let _router =
        packets(5, move |request| if request[0] == 2 { garbage(request) } else { vec![vec![1; 1_500]; 300] }).await;
    for method in [Method::Pcp, Method::NatPmp] {
        let start = Instant::now();
        let outcome = run(job(5, method, MAP)).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        assert!(start.elapsed() < END);
    }
}

/// A UPnP router whose HTTP answers are made by `pages` from the first line of the request and its body.
async fn upnp(n: u8, location: String, pages: impl Fn(&str) -> Page + Send + Sync + 'static) -> JoinSet<()> {
    let search = UdpSocket::bind((router(n), 1_900)).await.expect("its port");
    let http = TcpListener::bind((router(n), HTTP)).await.expect("its port");
    let pages = Arc::new(pages);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 2_000];
        while let Ok((_, from)) = search.recv_from(&mut buffer).await {
            let answer = format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: {location}\r\n\r\n");
            let _ = search.send_to(answer.as_bytes(), from).await;
        }
    });
    tasks.spawn(async move {
        let mut served = JoinSet::new();
        while let Ok((mut stream, _)) = http.accept().await {
            let pages = Arc::clone(&pages);
            served.spawn(async move {
                let mut request = vec![0; 8_192];
                let mut len = 0;
                loop {
                    let read = stream.read(&mut request[len..]).await.unwrap_or(0);
                    len += read;
                    let text = String::from_utf8_lossy(&request[..len]).into_owned();
                    if read == 0 || text.contains("</s:Envelope>") || text.starts_with("GET") {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&request[..len]).into_owned();
                match pages(&text) {
                    Page::Whole(body) => {
                        let head =
                            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                    }
                    Page::Raw(raw) => {
                        let _ = stream.write_all(raw.as_bytes()).await;
                    }
                    Page::Endless => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                        while stream.write_all(&[b'<'; 16_384]).await.is_ok() {}
                    }
                    Page::Slow => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                        while stream.write_all(b" ").await.is_ok() {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            });
        }
    });
    tasks
}

enum Page {
    Whole(String),
    Raw(String),
    Endless,
    Slow,
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

fn description(control: &str) -> String {
    let service = format!(
        "<service><serviceType>{SERVICE}</serviceType><serviceId>w</serviceId><controlURL>{control}</controlURL>\
         <eventSubURL>/e</eventSubURL><SCPDURL>/scpd</SCPDURL></service>"
    );
    let device = |kind: &str, inside: &str| {
        format!("<device><deviceType>urn:schemas-upnp-org:device:{kind}:1</deviceType>{inside}</device>")
    };
    let connection = device("WANConnectionDevice", &format!("<serviceList>{service}</serviceList>"));
    let wan = device("WANDevice", &format!("<deviceList>{connection}</deviceList>"));
    let root = device("InternetGatewayDevice", &format!("<deviceList>{wan}</deviceList>"));
    format!("<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{root}</root>")
}

fn actions() -> String {
    let action = |name: &str, arguments: &[&str]| {
        let arguments: String = arguments
            .iter()
            .map(|name| format!("<argument><name>{name}</name><direction>in</direction></argument>"))
            .collect();
        format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
    };
    let (remote, port, protocol) = ("NewRemoteHost", "NewExternalPort", "NewProtocol");
    let add = ["NewInternalPort", "NewInternalClient", "NewEnabled", "NewPortMappingDescription", "NewLeaseDuration"];
    let add = action("AddPortMapping", &[&[remote, port, protocol], add.as_slice()].concat());
    let delete = action("DeletePortMapping", &[remote, port, protocol]);
    format!("<?xml version=\"1.0\"?><scpd><actionList>{add}{delete}</actionList></scpd>")
}

fn done(action: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:{action}Response xmlns:u=\"{SERVICE}\">{inside}</u:{action}Response></s:Body></s:Envelope>"
    )
}

fn fault(code: u16) -> Page {
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
         <faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError \
         xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode><errorDescription>no</errorDescription>\
         </UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    );
    Page::Raw(format!("HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// An honest router.
fn honest(request: &str) -> Page {
    let has = |what: &str| request.contains(what);
    if request.starts_with("GET /root") {
        Page::Whole(description("/control"))
    } else if request.starts_with("GET /scpd") {
        Page::Whole(actions())
    } else if has("<m:GetExternalIPAddress") {
        Page::Whole(done("GetExternalIPAddress", &format!("<NewExternalIPAddress>{PUBLIC}</NewExternalIPAddress>")))
    } else if has("<u:AddPortMapping") {
        Page::Whole(done("AddPortMapping", ""))
    } else if has("DeletePortMapping") {
        Page::Whole(done("DeletePortMapping", ""))
    } else {
        fault(401)
    }
}

fn own(n: u8) -> String {
    format!("http://{}:{HTTP}/root", router(n))
}

#[tokio::test]
async fn a_upnp_router_maps_and_forgets_and_says_why_it_does_not() {
    let _router = upnp(10, own(10), honest).await;
    let outside = SocketAddrV4::new(PUBLIC, 4_001);
    assert_eq!(run(job(10, Method::Upnp, MAP)).await, Outcome::Mapped(Granted { outside, lease: 600 }));
    assert_eq!(run(job(10, Method::Upnp, Task::Unmap)).await, Outcome::Removed);
    for (n, code, refusal) in [
        (11, 718, Refusal::Taken),
        (12, 725, Refusal::OnlyPermanent),
        (13, 606, Refusal::Refused),
        (14, 9, Refusal::Refused),
    ] {
        let _router =
            upnp(n, own(n), move |r| if r.contains("<u:AddPortMapping") { fault(code) } else { honest(r) }).await;
        assert_eq!(run(job(n, Method::Upnp, MAP)).await, Outcome::Failed(refusal), "{code}");
    }
    assert_eq!(run(job(15, Method::Upnp, MAP)).await, Outcome::Failed(Refusal::Unsupported), "nobody is there");
}

/// What a router has at the port of these tests.
fn entry(client: &str, lease: u32) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>4001</NewExternalPort><NewProtocol>UDP</NewProtocol>\
         <NewInternalPort>7</NewInternalPort><NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
         <NewPortMappingDescription>his</NewPortMappingDescription><NewLeaseDuration>{lease}</NewLeaseDuration>"
    )
}

#[tokio::test]
async fn a_lease_that_a_upnp_router_has_shortened_without_a_word_is_noticed() {
    let outside = SocketAddrV4::new(PUBLIC, 4_001);
    for (n, said, lease) in [(17, 120, 120), (18, 900, 600), (19, 0, 600)] {
        let _router = upnp(n, own(n), move |request| match request.contains("GetGenericPortMappingEntry") {
            true => Page::Whole(done(
                "GetGenericPortMappingEntry",
                &entry(&job(n, Method::Upnp, MAP).mapping.inside.ip().to_string(), said),
            )),
            false => honest(request),
        })
        .await;
        assert_eq!(run(job(n, Method::Upnp, MAP)).await, Outcome::Mapped(Granted { outside, lease }));
    }
}

#[tokio::test]
async fn what_somebody_else_has_at_the_port_by_now_is_left_to_him() {
    let removed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&removed);
    let _router = upnp(16, own(16), move |request| {
        if request.contains("GetGenericPortMappingEntry") {
            return Page::Whole(done("GetGenericPortMappingEntry", &entry("192.168.1.77", 0)));
        }
        counter.fetch_add(usize::from(request.contains("DeletePortMapping")), Ordering::Relaxed);
        honest(request)
    })
    .await;
    assert_eq!(run(job(16, Method::Upnp, Task::Unmap)).await, Outcome::Removed);
    assert_eq!(removed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn no_router_sends_us_to_another_host() {
    let visitors = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&visitors);
    let other = TcpListener::bind((router(99), HTTP)).await.expect("its port");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while other.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let elsewhere = format!("http://{}:{HTTP}", router(99));
    let root = format!("{elsewhere}/root");
    let control = description(&format!("{elsewhere}/control"));
    let based = description("/control").replace("<device>", &format!("<URLBase>{elsewhere}</URLBase><device>"));
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {root}\r\nContent-Length: 0\r\n\r\n");
    let (scpd, again) = (description("/control").replace("/scpd", &format!("{elsewhere}/scpd")), moved.clone());
    let _routers = [
        upnp(20, root, honest).await,
        upnp(21, own(21), move |r| if r.starts_with("GET /root") { Page::Whole(control.clone()) } else { honest(r) })
            .await,
        upnp(22, own(22), move |r| if r.starts_with("GET /root") { Page::Whole(based.clone()) } else { honest(r) })
            .await,
        upnp(23, own(23), move |r| if r.starts_with("GET /root") { Page::Raw(moved.clone()) } else { honest(r) }).await,
        upnp(24, own(24), move |r| if r.starts_with("GET /root") { Page::Whole(scpd.clone()) } else { honest(r) })
            .await,
        upnp(25, own(25), move |r| if r.starts_with("POST") { Page::Raw(again.clone()) } else { honest(r) }).await,
    ];
    let start = Instant::now();
    let outcomes = futures::future::join_all((20..=25).map(|n| run(job(n, Method::Upnp, MAP)))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    assert!(start.elapsed() < END);
    assert_eq!(visitors.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_pages_end_in_time_and_map_nothing() {
    let nested = "<a>".repeat(100_000);
    let bomb = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x \"{}\">{}]><a>&y30;</a>",
        "x".repeat(1_000),
        (0..=30)
            .map(|n| format!(
                "<!ENTITY y{n} \"{}\">",
                format!("&{};", if n == 0 { "x".to_owned() } else { format!("y{}", n - 1) }).repeat(10)
            ))
            .collect::<String>()
    );
    let lying = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n<a>".to_owned();
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n<a>".to_owned();
    let headers = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000));
    let odd = done("GetExternalIPAddress", "<NewExternalIPAddress>::1 ' \u{0}</NewExternalIPAddress>");
    type Pages = Box<dyn Fn() -> Page + Send + Sync>;
    let pages: Vec<Pages> = vec![
        Box::new(|| Page::Endless),
        Box::new(|| Page::Slow),
        Box::new(move || Page::Whole(nested.clone())),
        Box::new(move || Page::Whole(bomb.clone())),
        Box::new(move || Page::Raw(lying.clone())),
        Box::new(move || Page::Raw(chunks.clone())),
        Box::new(move || Page::Raw(headers.clone())),
        Box::new(move || Page::Whole(odd.clone())),
        Box::new(|| Page::Raw(String::new())),
        Box::new(|| Page::Raw("\u{0}\u{1}garbage".repeat(1_000))),
        Box::new(|| Page::Whole("<root".to_owned())),
    ];
    // First what it says of itself is bad, then what it can do, then what it answers.
    let mut routers = JoinSet::new();
    for (page, at) in pages.into_iter().zip((30u8..).step_by(3)) {
        let page = Arc::new(page);
        for (n, step) in (at..).zip(["GET /root", "GET /scpd", "POST"]) {
            let page = Arc::clone(&page);
            routers.spawn(async move {
                let hostile = move |request: &str| if request.starts_with(step) { page() } else { honest(request) };
                let _router = upnp(n, own(n), hostile).await;
                for task in [MAP, Task::Unmap] {
                    let start = Instant::now();
                    let outcome = run(job(n, Method::Upnp, task)).await;
                    assert!(!matches!(outcome, Outcome::Mapped(_)), "{n} {step}: {outcome:?}");
                    assert!(start.elapsed() < END, "{n} {step}: {:?}", start.elapsed());
                }
            });
        }
    }
    routers.join_all().await;
}
