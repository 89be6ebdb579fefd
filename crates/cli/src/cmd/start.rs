//! `start`: runs the device, in the foreground or as a process of its own in the background.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use handfast::{Cause, Error};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::Context;
use super::devices::tell_of_name;
use crate::args::Start;
use crate::config::{self, Nodes};
use crate::daemon::{Client, End, Hosted};
use crate::log;
use crate::output::Output;
use crate::render::clean;
use crate::signals::Signals;

/// How long a device may take from its start to its control socket; it usually takes a tenth of a second.
const START: Duration = Duration::from_secs(20);

/// How long a device that has just started may take to connect to a node before that is said: some round trips.
const CONNECT: Duration = Duration::from_secs(2);

/// How often it is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What is said when the device runs.
#[derive(Serialize, Deserialize)]
struct Started {
    v: u32,
    event: String,
    instance: String,
    name: String,
    id: String,
    fingerprint: String,
}

/// The line by which a detached device tells how its start went.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Failed { cause: String, text: String, hint: String },
    Started(Started),
}

/// Runs the device until it is asked to stop.
pub(super) async fn foreground(context: &Context, args: &Start) -> Result<u8, Error> {
    if args.detached {
        leave_the_terminal();
    }
    if args.tied {
        tie_to_parent()?;
    }
    let mut signals = if args.detached { Signals::listen_alone()? } else { Signals::listen()? };
    let instance = &context.instance;
    instance.prepare()?;
    log::to_file(&instance.log(), !args.detached)?;
    let builder = config::builder(instance, args.name.clone(), &args.network)?;
    let mut hosted = Hosted::start(instance, builder).await?;
    say_started(context, args).await?;
    let end = tokio::select! {
        error = note_if_alone(context, args) => Err(error),
        end = hosted.ended() => Ok(end),
        () = signals.next() => Ok(End::Asked),
    };
    hosted.stop().await;
    match end? {
        End::Asked => Ok(0),
        End::Alone => Err(Error::because(Cause::Internal, "the device has ended by itself")),
    }
}

/// Ends only if it fails.
async fn note_if_alone(context: &Context, args: &Start) -> Error {
    // A detached one has nobody to tell; the process that started it tells.
    let said = if args.detached { Ok(()) } else { say_if_alone(context, args).await };
    match said {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// Starts the device as a process of its own and waits until its control socket answers.
pub(super) fn detach(context: &Context, args: &Start) -> Result<u8, Error> {
    let failed =
        |error: std::io::Error| Error::because(Cause::Internal, format!("the device could not be started: {error}"));
    let mut child = command(context, args).and_then(|mut command| command.spawn()).map_err(failed)?;
    match told(&mut child) {
        Some(Told::Started(started)) => {
            context.out.show(&started, Started::text);
            note_if_renamed(context, args, &started);
            super::one_thread(async {
                say_if_alone(context, args).await?;
                Ok(0)
            })
        }
        Some(Told::Failed { cause, text, hint }) => {
            let cause = Cause::ALL.iter().find(|known| known.name() == cause).copied().unwrap_or(Cause::Internal);
            Err(Error { cause, text, hint })
        }
        None => {
            // Whatever it does, it does not work; a device that nobody can talk to is of no use.
            let _ = child.kill();
            let status = child.wait().map_err(failed)?;
            let log = context.instance.log();
            Err(Error::because(Cause::Internal, format!("the device did not get ready ({status})"))
                .with_hint(format!("its log is {}", log.display())))
        }
    }
}

/// Says on stderr if the device has another name than the one it was given.
fn note_if_renamed(context: &Context, args: &Start, started: &Started) {
    if let Some(typed) = &args.name {
        tell_of_name(context, typed, &started.name);
    }
}

/// Says on stderr if there is nobody who could tell others where this device is.
async fn say_if_alone(context: &Context, args: &Start) -> Result<(), Error> {
    let what = match config::nodes(&context.instance, &args.network)? {
        Nodes::Unwanted => return Ok(()),
        Nodes::Missing => "no bootstrap node is configured",
        Nodes::Named => {
            let limit = Instant::now() + CONNECT;
            loop {
                match Client::of(&context.instance).status().await {
                    Ok(status) if status.dht_nodes == 0 && Instant::now() < limit => sleep(LOOK_AGAIN).await,
                    Ok(status) if status.dht_nodes == 0 => break,
                    // Somebody may have stopped it meanwhile.
                    Ok(_) | Err(_) => return Ok(()),
                }
            }
            "no bootstrap node answers yet"
        }
    };
    context.out.talk(&format!("note: {what}: only devices on this network will be found (see `handfast serve`)"));
    Ok(())
}

impl Started {
    fn text(&self) -> String {
        format!("{}, instance \"{}\", runs", clean(&self.name), clean(&self.instance))
    }
}

/// This program again, in the foreground of nothing.
fn command(context: &Context, args: &Start) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--instance").arg(context.instance.name.as_str()).arg("--home").arg(&context.instance.home);
    command.args(["--json", "start", "--foreground", "--detached"]);
    if let Some(name) = &args.name {
        command.arg(format!("--name={name}"));
    }
    for address in &args.network.listen {
        command.arg("--listen").arg(address.to_string());
    }
    for node in &args.network.bootstrap {
        command.arg("--bootstrap").arg(node.to_string());
    }
    for server in &args.network.stun {
        command.arg("--stun").arg(server.to_string());
    }
    for (given, option) in [
        (args.network.no_dht, "--no-dht"),
        (args.network.no_lan, "--no-lan"),
        (args.network.no_relay, "--no-relay"),
        (args.network.no_port_mapping, "--no-port-mapping"),
        (args.network.offline, "--offline"),
    ] {
        if given {
            command.arg(option);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

/// The first line of the new process, if there is one in time that can be understood.
fn told(child: &mut Child) -> Option<Told> {
    let stdout = child.stdout.take()?;
    let (send, line) = mpsc::sync_channel(1);
    // A read cannot be called off; this thread ends with the line, or with the process that does not say it.
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = BufReader::new(stdout).read_line(&mut text);
        // If nobody waits any more there is nobody to tell.
        let _ = send.send(read.map(|_| text));
    });
    let line = line.recv_timeout(START).ok()?.ok()?;
    serde_json::from_str(&line).ok()
}

/// A session of its own: no terminal, no signals from one. It keeps no folder from being unmounted.
fn leave_the_terminal() {
    // Both are comfort, and the device runs without them.
    let _ = setsid();
    let _ = std::env::set_current_dir("/");
}

/// Has the system end this process when the one that started it ends.
pub(super) fn tie_to_parent() -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| Error::because(Cause::Internal, error))
}

/// Says that the device runs, after its control socket has answered, and then lets go of the streams.
async fn say_started(context: &Context, args: &Start) -> Result<(), Error> {
    let status = Client::of(&context.instance).status().await?;
    let started = Started {
        v: handfast::EVENT_VERSION,
        event: "started".to_owned(),
        instance: status.instance,
        name: status.name,
        id: status.id,
        fingerprint: status.fingerprint,
    };
    say(&context.out, &started);
    if args.detached {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Error::because(Cause::Internal, error))?;
        // Nobody reads them any more; they would only fill a pipe, or hold it open.
        for redirected in [rustix::stdio::dup2_stdout(&null), rustix::stdio::dup2_stderr(&null)] {
            redirected.map_err(|error| Error::because(Cause::Internal, error))?;
        }
    } else {
        note_if_renamed(context, args, &started);
    }
    Ok(())
}

fn say(out: &Output, started: &Started) {
    if out.is_json() {
        out.json_line(started);
    } else {
        out.talk(&started.text());
    }
}
