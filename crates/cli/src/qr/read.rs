//! Finds a code in a picture file: a screenshot, a scan or a photograph of the other device's screen.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use handfast::{Cause, Error};
use rqrr::PreparedImage;
use zeroize::Zeroizing;

use super::pixels::{self, Grey, PIXELS_MAX, PixelError, SIDE_MAX};

/// Most bytes of a picture file. Photographs have up to 20 MB, and what a QR needs is far below.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// Pixels of the longer side of the copies that are searched, one after another until a code is found: in a smaller
/// one the noise of a camera is averaged away, in a larger one a small QR is still sharp.
const SIDES: [usize; 3] = [WINDOW, 2 * WINDOW, 4 * WINDOW];

/// Pixels of a side of what is searched at once; the windows on a larger copy overlap by half. What the search keeps
/// grows with the square of the corners of QRs that it sees, and so many that this hurts do not fit in here.
const WINDOW: usize = 1_024;

/// Most characters of a QR (version 40, digits only).
const TEXT_MAX: usize = 7_089;

/// How long a picture is searched. A photograph takes a second or two; one that is made of the corners of QRs, which are
/// tried in threes, would take hours.
const SEARCH_MAX: Duration = Duration::from_secs(20);

/// How the text of a code begins.
const PREFIX: &str = "HANDFAST:";

/// Most characters of the beginning of another QR that are said.
const SCHEME_MAX: usize = 16;

/// The one code in the picture file `path`: a text that begins as a QR text does, and nothing more is known of it.
///
/// # Errors
/// `usage` if the file cannot be opened or read, `code_malformed` for all that is not one code, with what was found
/// instead. What other QRs say is not repeated: it may be a secret of somebody.
pub(crate) fn code_in(path: &Path) -> Result<Zeroizing<String>, Error> {
    let unreadable = |error| Error::because(Cause::Usage, format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let refuse = |what: &str| {
        Error::because(Cause::CodeMalformed, format!("{}: {what}", path.display()))
            .with_hint("take a sharp picture of the whole QR, as PNG or JPEG; nothing was sent")
    };
    if bytes.len() as u64 > FILE_MAX {
        return Err(refuse(&format!("the file has more than {} MiB", FILE_MAX / 1024 / 1024)));
    }
    within(SEARCH_MAX, bytes).map_err(|what| refuse(&what))
}

/// The one code in the bytes of a file, or what is said instead. The search is on a thread of its own, which ends with
/// the process: its time is bounded, whatever the picture is.
pub(super) fn within(limit: Duration, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, String> {
    let (send, found) = sync_channel(1);
    std::thread::spawn(move || {
        let picture = pixels::decode(&bytes).map_err(|error| describe(&error));
        drop(bytes);
        // Nobody waits any more when the time is over.
        let _ = send.send(picture.and_then(|picture| search(&picture).map_err(|found| found.to_string())));
    });
    match found.recv_timeout(limit) {
        Ok(found) => found,
        Err(RecvTimeoutError::Timeout) => Err("nothing was found in time: cut out the QR".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err("this picture cannot be read".to_owned()),
    }
}

/// What there was instead of one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that looks like a QR.
    Nothing,
    /// Something that does, and cannot be read.
    Unreadable,
    /// QRs of something else: how the first one begins, if that tells its kind.
    Others(usize, Option<String>),
    /// Different codes: which one is meant nobody can know.
    Codes(usize),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Nothing => f.write_str("there is no QR in this picture"),
            Found::Unreadable => f.write_str("there is a QR in this picture, but it is blurred, damaged or cut off"),
            Found::Others(1, None) => f.write_str("the QR in this picture is not one of handfast"),
            Found::Others(1, Some(scheme)) => {
                write!(f, "the QR in this picture is not one of handfast: it begins with \"{scheme}\"")
            }
            Found::Others(count, _) => write!(f, "none of the {count} QRs in this picture is one of handfast"),
            Found::Codes(count) => {
                write!(f, "there are {count} different codes in this picture: cut out the right one")
            }
        }
    }
}

/// The one code in the picture, which is looked at in several sizes, dark on light and light on dark.
pub(super) fn search(picture: &Grey) -> Result<Zeroizing<String>, Found> {
    let longer = picture.width.max(picture.height);
    let mut factors = SIDES.map(|side| longer.div_ceil(side)).to_vec();
    factors.dedup();
    let mut seen = Seen::default();
    for factor in factors {
        let reduced = (factor > 1).then(|| picture.reduced(factor));
        let picture = reduced.as_ref().unwrap_or(picture);
        for top in starts(picture.height) {
            for left in starts(picture.width) {
                seen.look(picture, left, top, 0x00);
                seen.look(picture, left, top, 0xff);
            }
        }
        match seen.codes.len() {
            0 => {}
            1 => return Ok(seen.codes.remove(0)),
            count => return Err(Found::Codes(count)),
        }
    }
    Err(match seen.others.as_slice() {
        [] if seen.unreadable => Found::Unreadable,
        [] => Found::Nothing,
        [first, ..] => Found::Others(seen.others.len(), std::str::from_utf8(first).ok().and_then(scheme)),
    })
}

/// Where the windows on `length` pixels begin.
fn starts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(WINDOW / 2).take_while(move |start| *start == 0 || start + WINDOW / 2 < length)
}

/// The QRs of a picture so far, each once.
#[derive(Default)]
struct Seen {
    codes: Vec<Zeroizing<String>>,
    others: Vec<Zeroizing<Vec<u8>>>,
    /// Something was a QR and could not be read.
    unreadable: bool,
}

impl Seen {
    /// Looks through one window, at pixels combined with `flip`: 0 for dark on light, 255 for light on dark.
    fn look(&mut self, picture: &Grey, left: usize, top: usize, flip: u8) {
        let (width, height) = ((picture.width - left).min(WINDOW), (picture.height - top).min(WINDOW));
        let mut image = PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            picture.pixels[(top + y) * picture.width + left + x] ^ flip
        });
        for grid in image.detect_grids() {
            let mut bytes = Zeroizing::new(Vec::with_capacity(TEXT_MAX));
            if grid.decode_to(&mut *bytes).is_err() {
                self.unreadable = true;
                continue;
            }
            match std::str::from_utf8(&bytes) {
                Ok(text) if is_code(text) => {
                    if !self.codes.iter().any(|code| code.eq_ignore_ascii_case(text)) {
                        self.codes.push(Zeroizing::new(text.to_owned()));
                    }
                }
                Ok(_) | Err(_) if self.others.contains(&bytes) => {}
                Ok(_) | Err(_) => self.others.push(bytes),
            }
        }
    }
}

fn is_code(text: &str) -> bool {
    text.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX))
}

/// How a text begins that names its kind (`https:`, `WIFI:`), and never more of it.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once(':')?;
    let plain = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let is_scheme = plain && scheme.len() <= SCHEME_MAX && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    is_scheme.then(|| format!("{scheme}:"))
}

fn describe(error: &PixelError) -> String {
    match error {
        PixelError::Kind(Some(kind)) => format!("this is {kind}; PNG and JPEG can be read"),
        PixelError::Kind(None) => "this is no picture that can be read: it must be PNG or JPEG".to_owned(),
        PixelError::Size(width, height) => format!(
            "a picture of {width} x {height} pixels is not read; at most {SIDE_MAX} a side and {} million in all are",
            PIXELS_MAX / 1_000_000
        ),
        PixelError::Damaged(format) => format!("this {format} file is damaged or incomplete"),
    }
}
