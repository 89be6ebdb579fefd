//! scratch
#![allow(missing_docs, clippy::all, unused)]
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::time::Duration;
use handfast::*;
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

type R<T> = Result<T, Error>;
fn out(v: &impl serde::Serialize) { let mut o = std::io::stdout().lock(); let _ = writeln!(o, "{}", serde_json::to_string(v).unwrap()); let _ = o.flush(); }

struct Args { instance: String, home: PathBuf, name: Option<String>, listen: Vec<Address>, boot: Vec<Bootstrap>, yes: bool, ttl: u64, count: u32, data: Option<PathBuf>, external: Vec<Address>, since: u64, metrics: Option<String>, pos: Vec<String> }

fn parse() -> Args {
    let mut a = Args { instance: "default".into(), home: std::env::var_os("HANDFAST_HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from(std::env::var("HOME").unwrap()).join(".local/share/handfast")), name: None, listen: vec![], boot: vec![], yes: false, ttl: 600, count: 1, data: None, external: vec![], since: 0, metrics: None, pos: vec![] };
    let mut it = std::env::args().skip(1);
    while let Some(x) = it.next() {
        match x.as_str() {
            "--instance" => a.instance = it.next().unwrap(),
            "--home" => a.home = it.next().unwrap().into(),
            "--name" => a.name = it.next(),
            "--listen" => a.listen.push(it.next().unwrap().parse().unwrap()),
            "--external" => a.external.push(it.next().unwrap().parse().unwrap()),
            "--bootstrap" => a.boot.push(it.next().unwrap().parse().unwrap()),
            "--ttl" => a.ttl = it.next().unwrap().parse().unwrap(),
            "--count" => a.count = it.next().unwrap().parse().unwrap(),
            "--since" => a.since = it.next().unwrap().parse().unwrap(),
            "--data" => a.data = it.next().map(PathBuf::from),
            "--metrics" => a.metrics = it.next(),
            "--yes" => a.yes = true,
            "--json" | "--foreground" | "--enable-networking" | "--no-lan" => {}
            _ => a.pos.push(x),
        }
    }
    a
}

async fn serve_control(h: Handle, l: UnixListener) {
    loop {
        let Ok((s, _)) = l.accept().await else { return };
        let h = h.clone();
        tokio::spawn(async move {
            let (r, mut w) = s.into_split();
            let mut line = String::new();
            BufReader::new(r).read_line(&mut line).await.ok();
            let v: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            let err = |e: Error| json!({"v":1,"event":"error","cause":e.cause.name(),"code":e.cause.name(),"text":e.text,"hint":e.hint,"exit":e.exit()});
            let opts = PairOptions { yes: v["yes"] == true, ttl: Duration::from_secs(v["ttl"].as_u64().unwrap_or(600)) };
            let sess = v["session"].as_str().map(str::to_owned);
            let mut send = async |v: Value| { let _ = w.write_all(format!("{v}\n").as_bytes()).await; };
            let mut follow: Option<(String, u64)> = None;
            let mut words = None;
            let reply = match v["c"].as_str().unwrap_or("") {
                "status" => serde_json::to_value(h.status()).unwrap(),
                "devices" => h.devices().await.map_or_else(err, |d| serde_json::to_value(d).unwrap()),
                "sessions" => h.sessions().await.map_or_else(err, |d| serde_json::to_value(d).unwrap()),
                "cancel" => h.cancel(sess).await.map_or_else(err, |s| json!({"session": s})),
                "answer" => h.answer(sess, v["allow"] == true).await.map_or_else(err, |s| json!({"session": s})),
                "ping" => h.ping(v["device"].as_str().unwrap(), Duration::from_secs(20)).await.map_or_else(err, |p| json!({"event":"pong","v":1,"device":p.device,"n":1,"rtt_ms":p.rtt.as_secs_f64()*1e3,"path":p.path,"address":p.address})),
                "stop" => { h.stop().await; json!({}) }
                "generate" => match h.generate(opts).await { Ok(c) => { words = Some((c.words.join(" "), c.qr.to_string())); follow = Some((c.session.clone(), c.seq)); Value::Null } Err(e) => err(e) },
                "join" => match h.join(v["code"].as_str().unwrap(), opts).await { Ok(j) => { follow = Some((j.session.clone(), j.seq)); Value::Null } Err(e) => serde_json::to_value(EventKind::failed_because(None, &e)).unwrap() },
                "events" => { follow = Some((String::new(), v["since"].as_u64().unwrap_or(0))); Value::Null }
                _ => json!({}),
            };
            if reply != Value::Null { send(reply).await; return }
            let (id, seq) = follow.unwrap();
            let mut ev = h.events(seq);
            while let Some(e) = ev.next().await {
                if !id.is_empty() && e.kind.session() != Some(&id) { continue }
                let mut j = serde_json::to_value(&*e).unwrap();
                if let (Some((w2, q)), EventKind::CodeCreated { .. }) = (&words, &e.kind) { j["words"] = json!(w2); j["qr"] = json!(q); }
                send(j).await;
                if !id.is_empty() && e.kind.is_terminal() { return }
            }
        });
    }
}

async fn start(a: &Args) -> R<Handle> {
    let h = Builder::new(a.home.join(&a.instance)).instance(&a.instance).name(a.name.as_deref().unwrap_or(&a.instance)).network(Network { listen: a.listen.clone(), bootstrap: a.boot.clone(), no_dht: false }).start().await?;
    let p = a.home.join(&a.instance).join("control.sock");
    let _ = std::fs::remove_file(&p);
    let l = UnixListener::bind(&p).unwrap();
    tokio::spawn(serve_control(h.clone(), l));
    Ok(h)
}

fn log(a: &Args) {
    let dir = a.home.join(&a.instance).join("log");
    std::fs::create_dir_all(&dir).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(a.home.join(&a.instance), std::fs::Permissions::from_mode(0o700)).unwrap();
    let f = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("handfast.log")).unwrap();
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or("info".into())).with_writer(std::sync::Mutex::new(f)).init();
}

async fn ask(a: &Args, v: Value) -> i32 {
    let p = a.home.join(&a.instance).join("control.sock");
    let mut local = None;
    let s = match UnixStream::connect(&p).await {
        Ok(s) => s,
        Err(_) => {
            if !matches!(v["c"].as_str(), Some("generate" | "join" | "ping")) { out(&json!({"v":1,"event":"error","cause":"not_running","code":"not_running","text":"","hint":"","exit":10})); return 10 }
            log(a);
            match start(a).await { Ok(h) => local = Some(h), Err(e) => { out(&json!({"event":"error","cause":e.cause.name(),"text":e.text})); return e.exit() as i32 } }
            UnixStream::connect(&p).await.unwrap()
        }
    };
    let (r, mut w) = s.into_split();
    w.write_all(format!("{v}\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(r).lines();
    let mut code = 0;
    loop {
        tokio::select! {
            l = lines.next_line() => { let Ok(Some(l)) = l else { break }; let j: Value = serde_json::from_str(&l).unwrap(); out(&j); if let Some(e) = j["exit"].as_i64() { code = e as i32; } }
            _ = tokio::signal::ctrl_c() => { code = 130; break }
        }
    }
    if let Some(h) = local { h.stop().await; let _ = std::fs::remove_file(&p); }
    code
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut a = parse();
    if a.pos.first().map(|s| s == "network").unwrap_or(false) { a.pos.remove(0); }
    let pos: Vec<&str> = a.pos.iter().map(|s| s.as_str()).collect();
    let code = match pos.as_slice() {
        ["start"] => {
            log(&a);
            match start(&a).await {
                Ok(h) => {
                    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
                    tokio::select! { _ = h.stopped() => {}, _ = term.recv() => h.stop().await, _ = tokio::signal::ctrl_c() => h.stop().await }
                    let _ = std::fs::remove_file(a.home.join(&a.instance).join("control.sock"));
                    0
                }
                Err(e) => { out(&json!({"event":"error","cause":e.cause.name(),"text":e.text})); e.exit() as i32 }
            }
        }
        ["stop"] => ask(&a, json!({"c":"stop"})).await,
        ["status"] => ask(&a, json!({"c":"status"})).await,
        ["devices"] | ["devices", "list"] => ask(&a, json!({"c":"devices"})).await,
        ["pair", "status" | "list"] => ask(&a, json!({"c":"sessions"})).await,
        ["pair", "generate"] => ask(&a, json!({"c":"generate","yes":a.yes,"ttl":a.ttl})).await,
        ["pair", "join", "-"] => { let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap(); ask(&a, json!({"c":"join","yes":a.yes,"code":s})).await }
        ["pair", "join", rest @ ..] => ask(&a, json!({"c":"join","yes":a.yes,"code":rest.join(" ")})).await,
        ["pair", "cancel", s @ ..] => ask(&a, json!({"c":"cancel","session":s.first()})).await,
        ["pair", x @ ("accept"|"reject"), s @ ..] => ask(&a, json!({"c":"answer","allow":*x=="accept","session":s.first()})).await,
        ["ping", d] => ask(&a, json!({"c":"ping","device":d})).await,
        ["events"] => ask(&a, json!({"c":"events","since":a.since})).await,
        ["serve"] => {
            let listen = if a.listen.is_empty() { ["/ip4/0.0.0.0/udp/4001/quic-v1","/ip4/0.0.0.0/tcp/4001"].iter().map(|s| s.parse().unwrap()).collect() } else { a.listen.clone() };
            match node::Node::start(node::NodeConfig { data: a.data.clone().unwrap_or(a.home.join("serve")), listen, external: a.external.clone(), bootstrap: a.boot.clone() }).await {
                Ok(n) => { for x in n.addresses() { println!("{x}"); } println!("ready"); let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap(); tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} } n.stop().await; 0 }
                Err(e) => { eprintln!("{e}"); e.exit() as i32 }
            }
        }
        _ => 2,
    };
    std::process::exit(code);
}
