//! `handfast-lab`: measures the real program in the lab, one scenario a command.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use handfast_lab::lan::Profile;
use handfast_lab::lock::LabLock;
use handfast_lab::nat::Nat;
use handfast_lab::report::Report;
use handfast_lab::scenario::{
    Options, attack, causes, cold, dht_loss, faults, footprint, growth, interop, kill9, lan, leaks, nat_kinds,
    nat_matrix, pairings, port_mapping, race, reachability, record_flood, relay_attack, restart, roaming, same_nat,
    slumber, upgrade,
};
use handfast_lab::skip;

/// Measures handfast between network namespaces on this machine. Needs root.
///
/// Ends with 0 when everything that must hold holds, with 1 when something does not.
#[derive(Parser)]
#[command(
    name = "handfast-lab",
    after_help = "Example:\n  cargo build --release && target/release/handfast-lab pairings --runs 50"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// DHT nodes.
    #[arg(long, default_value_t = 20, global = true)]
    nodes: usize,
    /// Seed of everything that is drawn: lost frames, killed nodes, kill moments.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Milliseconds between the words appearing on one device and their being entered on the other.
    #[arg(long, default_value_t = 1000, global = true)]
    gap_ms: u64,
    /// Report times, but do not judge them (for debug builds and busy machines).
    #[arg(long, global = true)]
    no_limits: bool,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Print Markdown: the table, and of what must hold only what does not.
    #[arg(long, global = true, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Pairings by words with running daemons: phases, median, p95.
    Pairings {
        /// How many.
        #[arg(long, default_value_t = 50)]
        runs: usize,
    },
    /// Pairings by two plain commands without daemons.
    Cold {
        /// How many.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Pairings while half of the DHT is killed.
    DhtLoss {
        /// How many.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Ping after both restarted, a day later, and with clocks a day apart.
    Restart {
        /// How often each case.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Ping after a device was stopped for 40 s and continued.
    Slumber {
        /// How often in each direction.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Secrets in capture, logs, stores, outputs and process list of a whole run at trace level.
    Leaks,
    /// Every fault with its cause, exit code and time, and what following its hint leads to.
    Causes {
        /// Groups of faults; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(causes::groups()))]
        groups: Vec<String>,
        /// How often each; with 1 those are left out that take minutes.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Many failures in a row leave nothing behind.
    Failures {
        /// Failures in a row.
        #[arg(long, default_value_t = 1000)]
        runs: usize,
    },
    /// Pairings while frames are lost, late or cut off, addresses change, nodes die, peers come late or never.
    Faults {
        /// Kinds of faults; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(faults::kinds()))]
        kinds: Vec<String>,
        /// Pairings of each kind; with more than one, every frame is lost in one of its own.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Many joiners race for one code.
    Race {
        /// How many.
        #[arg(long, default_value_t = 20)]
        joiners: usize,
    },
    /// kill -9 of either side at random moments.
    Kill9 {
        /// How many.
        #[arg(long, default_value_t = 200)]
        moments: usize,
    },
    /// The attacks of section 15 of the protocol on words, records, handshake and commit, against the real program and,
    /// where they must succeed, against a naive one.
    Attacks {
        /// Groups to play; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(attack::groups()))]
        groups: Vec<String>,
        /// Positions of each message that are tampered with besides the usual ones; with 1 the slow attacks are left out.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Every local network by words and by QR: what pairs, how fast, and how the rest ends.
    LanTopologies {
        /// Networks; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(Profile::ALL.map(Profile::name)))]
        profiles: Vec<String>,
        /// How often each.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Pairings on one network with running daemons: phases, median, p95.
    LanPairings {
        /// How many by words, and how many by QR.
        #[arg(long, default_value_t = 100)]
        runs: usize,
    },
    /// Pairings on one network by two plain commands without daemons.
    LanCold {
        /// How many by words, and how many by QR.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Pairings where multicast and broadcast are dropped.
    LanBlocked {
        /// How many by words, and how many by QR.
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// `pair nearby` with three devices: choice, comparison, QR, and what goes wrong.
    LanNearby {
        /// How often each case; with 1 those that take minutes are left out.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// What leaves the devices on every local network, decoded.
    LanCapture {
        /// Networks; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(Profile::ALL.map(Profile::name)))]
        profiles: Vec<String>,
    },
    /// Who listens where, and what is announced of it.
    LanListeners {
        /// How often.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Attacks on beacons and on the confirmation service from a host of the same network.
    LanAttacks {
        /// Groups to play; all if none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(lan::attacks::groups()))]
        groups: Vec<String>,
    },
    /// What a device finds out about each kind of NAT.
    NatKinds,
    /// Pairings by words between devices behind every two kinds of NAT: first and last path, and how fast.
    NatMatrix {
        /// What is in front of the initiators; everything if nothing is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(Nat::ALL.map(Nat::name)))]
        initiators: Vec<String>,
        /// What is in front of the joiners, one or several; everything if nothing is named.
        #[arg(long, value_name = "JOINER", value_delimiter = ',',
            value_parser = clap::builder::PossibleValuesParser::new(Nat::ALL.map(Nat::name)))]
        with: Vec<String>,
        /// Play every two kinds in one order, and in the other one in the next run.
        #[arg(long)]
        unordered: bool,
        /// How often each pair, with new devices.
        #[arg(long, default_value_t = 1)]
        runs: usize,
    },
    /// A router that maps ports: reached from outside, renewed, gone after a stop and after a crash.
    PortMapping {
        /// Wait out a lease by UPnP as well: half an hour.
        #[arg(long)]
        half_an_hour: bool,
    },
    /// What a device finds out about who can call it, behind each kind of network.
    Reachability,
    /// js-libp2p joins our DHT, routes, answers, and stores and finds records of ours (npm brings it).
    Interop,
    /// A node under a flood of records of every kind keeps those of honest devices, in bounded memory.
    RecordFlood {
        /// Hostile puts, in all.
        #[arg(long, default_value_t = 100_000)]
        puts: usize,
    },
    /// A relay that is flooded, filled, stalled and fed garbage goes on serving others, in bounded memory.
    RelayAttack,
    /// A device changes address, router and network while it is paired and while it pairs: how soon pings are answered.
    Roaming {
        /// How many changes.
        #[arg(long, default_value_t = 50)]
        moves: usize,
        /// How many of them happen in the middle of a pairing with a third device.
        #[arg(long, default_value_t = roaming::MID_PAIRING)]
        mid_pairing: usize,
    },
    /// From a relay to a direct path: how fast, and that no request is lost or answered twice meanwhile.
    Upgrade {
        /// How many pairings are timed.
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// Requests over the link of one more pair.
        #[arg(long, default_value_t = 10_000)]
        requests: usize,
    },
    /// Pairings by words behind one NAT without hairpin: in one network, in two with a way between them, in two without.
    SameNat {
        /// How often each.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Size, start time, memory and idle processor use.
    Footprint {
        /// How often the start is timed.
        #[arg(long, default_value_t = 10)]
        runs: usize,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(reason) = skip::reason() {
        bail!("{reason}");
    }
    let _lock = LabLock::acquire()?;
    let report = measure(&arguments)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", report.to_json())?;
    } else if arguments.markdown {
        report.write_markdown(&mut out)?;
    } else {
        report.write(&mut out)?;
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let options = |runs| Options {
        nodes: arguments.nodes,
        runs,
        seed: arguments.seed,
        gap: Duration::from_millis(arguments.gap_ms),
        limits: !arguments.no_limits,
    };
    match &arguments.command {
        Command::Attacks { groups, runs } => attack::run(&options(*runs), groups),
        Command::Pairings { runs } => pairings::run(&options(*runs)),
        Command::Cold { runs } => cold::run(&options(*runs)),
        Command::DhtLoss { runs } => dht_loss::run(&options(*runs)),
        Command::Restart { runs } => restart::run(&options(*runs)),
        Command::Slumber { runs } => slumber::run(&options(*runs)),
        Command::Leaks => leaks::run(&options(1)),
        Command::Causes { groups, runs } => causes::run(&options(*runs), groups),
        Command::Failures { runs } => growth::run(&options(*runs)),
        Command::Faults { kinds, runs } => faults::run(&options(*runs), kinds),
        Command::Race { joiners } => race::run(&options(*joiners)),
        Command::Kill9 { moments } => kill9::run(&options(*moments)),
        Command::LanTopologies { profiles, runs } => lan::topologies::run(&options(*runs), profiles),
        Command::LanPairings { runs } => lan::times::pairings(&options(*runs)),
        Command::LanCold { runs } => lan::times::cold(&options(*runs)),
        Command::LanBlocked { runs } => lan::times::blocked(&options(*runs)),
        Command::LanCapture { profiles } => lan::capture::run(&options(1), profiles),
        Command::LanListeners { runs } => lan::listeners::run(&options(*runs)),
        Command::LanAttacks { groups } => lan::attacks::run(&options(1), groups),
        Command::LanNearby { runs } => lan::nearby::run(&options(*runs)),
        Command::NatKinds => nat_kinds::run(&options(1)),
        Command::NatMatrix { initiators, with, unordered, runs } => {
            nat_matrix::run(&options(*runs), &nat_matrix::pairs(initiators, with, *unordered), *unordered)
        }
        Command::Reachability => reachability::run(&options(1)),
        Command::PortMapping { half_an_hour } => port_mapping::run(&options(1), *half_an_hour),
        Command::Interop => interop::run(&options(1)),
        Command::RecordFlood { puts } => record_flood::run(&options(1), *puts),
        Command::RelayAttack => relay_attack::run(&options(1)),
        Command::Roaming { moves, mid_pairing } => roaming::run(&options(*moves), *mid_pairing),
        Command::Upgrade { runs, requests } => upgrade::run(&options(*runs), *requests),
        Command::SameNat { runs } => same_nat::run(&options(*runs)),
        Command::Footprint { runs } => footprint::run(&options(*runs)),
    }
}
