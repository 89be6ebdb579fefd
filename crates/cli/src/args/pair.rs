//! `pair …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::NetworkArgs;

/// What to do about pairing.
#[derive(Subcommand)]
pub(crate) enum PairCommand {
    /// Show twelve words and a QR, and wait for the other device.
    Generate(Generate),
    /// Enter the code of the other device.
    Join(Join),
    /// Pair with a device of this network that does the same, without a code.
    Nearby(Nearby),
    /// Show the sessions of this device, as either side.
    #[command(visible_alias = "list")]
    Status(Which),
    /// Answer the question of a session with yes, or say what a comparison came to.
    Accept(Accept),
    /// Answer the question of a session with no.
    Reject(Reject),
    /// Withdraw a session.
    Cancel(Which),
}

/// `pair generate`.
#[derive(Args)]
#[command(after_help = "\
The words go to stdout, alone on one line if it is no terminal; everything else goes to stderr. Without a running \
device this command runs it itself until it is done.

A QR is drawn if the terminal has colours and enough room (80 columns and 24 rows have); without colours (NO_COLOR) \
its text is printed instead. The file of --qr-image holds the code in clear: it is made for you alone (mode 0600), \
never written over anything, and removed when this command ends. With --no-wait it stays: remove it yourself.

Examples:
  handfast pair generate
  handfast pair generate --ttl 120
  handfast pair generate --verify
  handfast pair generate --qr-image code.png
  handfast pair generate --yes --json --bootstrap ADDRESS")]
pub(crate) struct Generate {
    /// Do not ask: whoever enters the code is paired. It does not answer a comparison.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Compare seven emoji on both devices before they are paired, so that nobody who has seen the code gets in between;
    /// for both people to be sure, give it on both.
    #[arg(long)]
    pub(crate) verify: bool,
    /// How long the code lives, 5 to 3600 seconds. Without this it is ten minutes, and at a terminal another one takes its
    /// place when it is about to end, for an hour in all.
    #[arg(long, value_name = "SECS", value_parser = ttl)]
    pub(crate) ttl: Option<Duration>,
    /// Print the code and return; the running device goes on waiting.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Write the QR to this file too, which must not exist: .png or .svg.
    #[arg(long, value_name = "FILE")]
    pub(crate) qr_image: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// `pair join`.
#[derive(Args)]
#[command(after_help = "\
Without CODE it asks: Tab completes words, four letters of each are enough, and a wrong one is marked at once; the \
HANDFAST: text of a QR may be pasted there, too. `-` reads the code from stdin. A code given as an argument may have \
been seen by other users of this machine and stays in the history of the shell.

--qr-image takes a screenshot, a scan or a photograph with the QR on it. Other QRs in it do no harm.

Examples:
  handfast pair join
  handfast pair join - < code.txt
  handfast pair join --qr-image photo.jpg
  handfast pair join \"legal winner thank year …\"")]
pub(crate) struct Join {
    /// The twelve words, or a HANDFAST: text, or - for stdin.
    #[arg(value_name = "CODE", conflicts_with = "qr_image")]
    pub(crate) code: Vec<String>,
    /// Read the code from a picture of its QR: PNG or JPEG.
    #[arg(long, value_name = "FILE")]
    pub(crate) qr_image: Option<PathBuf>,
    /// Do not ask: whoever shows the code is paired. It does not answer a comparison.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Compare seven emoji on both devices before they are paired, so that nobody who has seen the code gets in between;
    /// for both people to be sure, give it on both.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// `pair nearby`.
#[derive(Args)]
#[command(after_help = "\
Run it on both devices, then choose the other one on one of them. Both show seven emoji: they are the same if nobody \
sits between. Names in the list are what the devices say of themselves. The device that was chosen shows a QR as \
well: the person who has chosen it may paste its text, or give a picture of it, instead of comparing.

Examples:
  handfast pair nearby
  handfast pair nearby --select kitchen
  handfast pair accept --emoji-match     answer from another terminal")]
pub(crate) struct Nearby {
    /// Choose this device as soon as it is there: its name, or its id in the list.
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) select: Option<String>,
    /// Do not ask whether a device that has scanned the QR may be paired. It does not answer a comparison.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Confirm the chosen device by a picture of the QR that it shows, instead of comparing.
    #[arg(long, value_name = "FILE")]
    pub(crate) qr_image: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Which session.
#[derive(Args)]
pub(crate) struct Which {
    /// The session; may be left out if only one fits.
    #[arg(value_name = "SESSION")]
    pub(crate) session: Option<String>,
}

/// `pair accept`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  handfast pair accept
  handfast pair accept --emoji-match   both devices show the same seven emoji
  handfast pair accept --emoji-differ  they do not: both devices end the pairing")]
pub(crate) struct Accept {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Both devices show the same emoji, or the same numbers. Nothing more is asked then.
    #[arg(long, conflicts_with = "emoji_differ")]
    pub(crate) emoji_match: bool,
    /// The devices show different emoji: somebody sits between them.
    #[arg(long)]
    pub(crate) emoji_differ: bool,
}

/// `pair reject`.
#[derive(Args)]
pub(crate) struct Reject {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The devices show different emoji: somebody sits between them.
    #[arg(long)]
    pub(crate) emoji_differ: bool,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let range = handfast::MIN_TTL..=handfast::MAX_TTL;
    let life = text.parse().ok().map(Duration::from_secs).filter(|life| range.contains(life));
    life.ok_or_else(|| format!("a code lives {} to {} seconds", range.start().as_secs(), range.end().as_secs()))
}
