//! One file per command. A command asks the library or the running device and hands the answer to `render`.

mod answer;
mod completions;
mod demo;
mod devices;
mod events;
mod generate;
mod join;
mod man;
mod nearby;
mod ping;
mod serve;
mod sessions;
mod start;
mod status;
mod stop;

use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;
use handfast::{Cause, Error};
use tokio::runtime::{Builder, Runtime};

use crate::args::{Cli, Command, NetworkArgs, NetworkCommand, PairCommand};
use crate::argv::{Arguments, GivenCode};
use crate::daemon::Access;
use crate::harden;
use crate::instance::Instance;
use crate::output::Output;
use crate::session;
use crate::term::Term;

/// Threads for a device beside the one that talks to the person, which may wait for a slow terminal.
const WORKERS: usize = 2;

/// How long tasks that are still there at the end may take to go.
const LAST_TASKS: Duration = Duration::from_millis(200);

/// What every command knows.
pub(crate) struct Context {
    /// The device.
    pub(crate) instance: Instance,
    /// Where results go.
    pub(crate) out: Output,
    /// What is connected.
    pub(crate) term: Term,
}

/// Carries out the command line and gives the exit code.
pub(crate) fn run(arguments: Arguments) -> u8 {
    let term = Term::look();
    let wants_json = arguments.shown.iter().any(|arg| arg == "--json");
    let cli = match Cli::try_parse_from(&arguments.shown) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, wants_json, term),
    };
    let out = Output::new(cli.global.json);
    if let Some(code) = &arguments.code {
        warn_of_argument(code);
    }
    let instance = match Instance::new(cli.global.instance, cli.global.home) {
        Ok(instance) => instance,
        Err(error) => {
            out.error(&error);
            return error.exit();
        }
    };
    let context = Context { instance, out, term };
    if !matches!(cli.command, Command::Serve(_)) {
        // A node keeps the records of others, much of it and no secret.
        harden::lock_memory();
    }
    let is_pairing = is_pairing(&cli.command);
    let code = dispatch(&context, cli.command, arguments.code).unwrap_or_else(|error| {
        let hint = context.instance.in_commands(&error.hint);
        let error = error.with_hint(hint);
        if is_pairing && context.out.is_json() {
            // There was no session, and yet the pairing has failed.
            context.out.json_line(&session::failure(None, &error, 0));
        } else {
            context.out.error(&error);
        }
        error.exit()
    });
    context.out.finish(code)
}

fn dispatch(context: &Context, command: Command, code: Option<GivenCode>) -> Result<u8, Error> {
    match command {
        Command::Start(start) if start.foreground => one_thread(start::foreground(context, &start)),
        Command::Start(start) => start::detach(context, &start),
        Command::Stop => one_thread(stop::run(context)),
        Command::Status => one_thread(status::run(context)),
        Command::Pair(pair) | Command::Network(NetworkCommand::Pair(pair)) => dispatch_pair(context, pair, code),
        Command::Devices(list) => one_thread(devices::run(context, list)),
        Command::Ping(ping) => threads(ping::run(context, &ping)),
        Command::Events(events) => one_thread(events::run(context, &events)),
        Command::Serve(serve) => threads(serve::run(context, serve)),
        Command::Demo => one_thread(demo::run(context)),
        Command::Completions { shell } => completions::run(context, shell),
        Command::Man { dir } => man::run(context, dir.as_deref()),
    }
}

fn dispatch_pair(context: &Context, pair: PairCommand, code: Option<GivenCode>) -> Result<u8, Error> {
    match pair {
        PairCommand::Generate(generate) => threads(generate::run(context, &generate)),
        PairCommand::Join(join) => {
            let code = join::code(context, &join, code)?;
            threads(join::run(context, &join, code))
        }
        PairCommand::Nearby(nearby) => threads(nearby::run(context, &nearby)),
        PairCommand::Status(which) => one_thread(sessions::run(context, which)),
        PairCommand::Accept(accept) => one_thread(answer::accept(context, accept)),
        PairCommand::Reject(reject) => one_thread(answer::reject(context, reject)),
        PairCommand::Cancel(which) => one_thread(answer::cancel(context, which)),
    }
}

/// Network options are for a device that is started; one that runs already has its own.
fn say_if_options_are_late(context: &Context, network: &NetworkArgs, access: &Access) {
    if network.is_given() && !access.is_own() {
        context.out.talk("note: the device runs already, so the network options of this command have no effect");
    }
}

/// Whether a failure of the command is a failed pairing.
fn is_pairing(command: &Command) -> bool {
    matches!(
        command,
        Command::Pair(PairCommand::Generate(_) | PairCommand::Join(_) | PairCommand::Nearby(_))
            | Command::Network(NetworkCommand::Pair(
                PairCommand::Generate(_) | PairCommand::Join(_) | PairCommand::Nearby(_)
            ))
    )
}

/// Help and version are results; anything else the parser says is a wrong use.
fn explain(error: &clap::Error, json: bool, term: Term) -> u8 {
    let rendered = error.render();
    let text = |colour: bool| if colour { rendered.ansi().to_string() } else { rendered.to_string() };
    let out = Output::new(json);
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        out.text(&text(term.colour && term.stdout));
        return out.finish(0);
    }
    if json {
        // What follows the first paragraph is for people: usage, and where to find help.
        let plain = text(false);
        let first: Vec<&str> = plain.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        out.error(&Error::because(Cause::Usage, first.join(" ").trim_start_matches("error: ")));
    } else {
        out.talk(text(term.colour && term.stderr).trim_end());
    }
    Cause::Usage.exit()
}

fn warn_of_argument(code: &GivenCode) {
    let still = if code.hidden { "" } else { " It could not be taken out of the process list." };
    crate::output::complain(&format!(
        "note: the code was given as an argument, where other users of this machine could have seen it; prefer the \
         prompt of `pair join`, or `-` for stdin.{still}"
    ));
}

/// For commands that only talk to a device, and for the daemon, which is idle most of its life.
fn one_thread(work: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    block_on(Builder::new_current_thread().enable_all().build(), work)
}

/// For commands that may run a device and talk to a person at the same time, and for a node.
fn threads(work: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    block_on(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build(), work)
}

fn block_on(runtime: std::io::Result<Runtime>, work: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    let runtime = runtime.map_err(|error| Error::because(Cause::Internal, error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_TASKS);
    done
}
