//! Takes the arguments, and takes a code out of them before anything else is done: out of the process list, where other
//! users see it, and out of what the parser and its messages get to see (protocol, section 13).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;

use zeroize::{Zeroize as _, Zeroizing};

/// What stands in the place of a code.
pub(crate) const MASK: &str = "***";

/// Options that are followed by a value of their own: it is no part of a code.
const VALUE_OPTIONS: [&str; 5] = ["--instance", "--home", "--listen", "--bootstrap", "--qr-image"];

/// A text shorter than this is no code, not even of four-letter words: it is not looked at any closer.
const SHORTEST_CODE: usize = 12 * 3 + 11;

/// The arguments of this process without the code.
pub(crate) struct Arguments {
    /// The arguments, the program's name first, with [`MASK`] for each part of a code.
    pub(crate) shown: Vec<OsString>,
    /// The code, if one was given as an argument.
    pub(crate) code: Option<GivenCode>,
}

/// A code that came as an argument.
pub(crate) struct GivenCode {
    /// What was typed, its parts joined by spaces.
    pub(crate) text: Zeroizing<String>,
    /// Whether the process list shows it no longer.
    pub(crate) hidden: bool,
}

/// Takes the arguments of this process. To be called first of all.
pub(crate) fn take() -> Arguments {
    let mut all: Vec<OsString> = std::env::args_os().collect();
    let at = code_parts(&all);
    if at.is_empty() {
        return Arguments { shown: all, code: None };
    }
    let hidden = overwrite(&all, &at).is_ok();
    let mut text = Zeroizing::new(String::with_capacity(256));
    for &index in &at {
        let mut bytes = std::mem::replace(&mut all[index], OsString::from(MASK)).into_vec();
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&String::from_utf8_lossy(&bytes));
        bytes.zeroize();
    }
    Arguments { shown: all, code: Some(GivenCode { text, hidden }) }
}

/// Which arguments are parts of a code: what follows `pair join`, and any text that is a right code wherever it stands,
/// say behind a mistyped command.
fn code_parts(args: &[OsString]) -> Vec<usize> {
    let mut command: Vec<&OsStr> = Vec::new();
    let mut parts = Vec::new();
    let mut skip = false;
    for (index, arg) in args.iter().enumerate().skip(1) {
        let is_value = std::mem::take(&mut skip);
        if !is_value && arg.as_bytes().starts_with(b"-") {
            skip = VALUE_OPTIONS.iter().any(|option| *arg == **option);
            continue;
        }
        let joins = command.ends_with(&[OsStr::new("pair"), OsStr::new("join")]);
        if (joins && !is_value) || is_code(arg) {
            parts.push(index);
        } else if !is_value {
            command.push(arg);
        }
    }
    parts
}

fn is_code(arg: &OsStr) -> bool {
    arg.len() >= SHORTEST_CODE && arg.to_str().is_some_and(|text| handfast::code::check(text).is_ok())
}

/// Writes over the arguments `at` in this process' own memory, where the system reads them for the process list.
fn overwrite(args: &[OsString], at: &[usize]) -> std::io::Result<()> {
    let refuse = |what: &'static str| std::io::Error::other(what);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses, which may hold spaces: fields count from the last one.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| refuse("no fields"))?;
    // proc_pid_stat(5): arg_start is field 48, and the first one after the name is field 3.
    let start: u64 = fields
        .split_ascii_whitespace()
        .nth(48 - 3)
        .and_then(|field| field.parse().ok())
        .filter(|start| *start != 0)
        .ok_or_else(|| refuse("no arg_start"))?;
    let memory = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let mut place = start;
    for (index, arg) in args.iter().enumerate() {
        let length = arg.len();
        if at.contains(&index) {
            let mut there = Zeroizing::new(vec![0; length]);
            memory.read_exact_at(&mut there, place)?;
            if *there != *arg.as_bytes() {
                return Err(refuse("the arguments are not where they should be"));
            }
            let mut mask = vec![0; length];
            mask.iter_mut().zip(MASK.bytes()).for_each(|(byte, star)| *byte = star);
            memory.write_all_at(&mask, place)?;
        }
        // Each argument ends with a zero byte.
        place += length as u64 + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

    fn parts(line: &[&str]) -> Vec<usize> {
        let args: Vec<OsString> = std::iter::once("handfast").chain(line.iter().copied()).map(OsString::from).collect();
        code_parts(&args)
    }

    #[test]
    fn what_follows_pair_join_is_the_code_wherever_options_stand() {
        assert_eq!(parts(&["pair", "join", CODE]), [3]);
        assert_eq!(parts(&["network", "pair", "join", "--instance", "bob", CODE, "--yes"]), [6]);
        assert_eq!(
            parts(&["--home", "join", "pair", "--json", "join", "legal", "winner", "--yes", "thank"]),
            [6, 7, 9]
        );
        assert_eq!(parts(&["pair", "join", "--", "legal", "winner"]), [4, 5]);
        assert_eq!(parts(&["pair", "join", "-"]), [0; 0]);
        assert_eq!(parts(&["pair", "join", "--qr-image", "photo of the other screen.jpg"]), [0; 0]);
        assert_eq!(parts(&["pair", "reject", "legal"]), [0; 0]);
        assert_eq!(parts(&["pair", "join", "--instance=bob", "susage"]), [4]);
    }

    #[test]
    fn a_right_code_behind_a_mistyped_command_is_taken_as_well() {
        assert_eq!(parts(&["pair", "jion", CODE]), [3]);
        assert_eq!(parts(&["start", "--name", CODE]), [3]);
        assert_eq!(parts(&["start", "--name", &CODE.replace("wave", "save")]), [0; 0]);
    }
}
