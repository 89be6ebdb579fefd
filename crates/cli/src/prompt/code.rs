//! The prompt for a code: Tab completes words, a wrong word is marked at once, Enter takes only a right code. Nothing of
//! it is written to disk: there is no history.

use std::borrow::Cow;

use handfast::{Cause, Error, WORD_COUNT, code, completions, find_word};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, ColorMode, CompletionType, Config, Context, Editor, Helper};
use zeroize::Zeroizing;

/// Red and underlined: seen without colours too.
const WRONG: &str = "\x1b[4;31m";
const FAINT: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Asks for a code until it is right; `None` if the person gives up.
///
/// # Errors
/// `internal` if the terminal cannot be used.
pub(crate) fn ask(colour: bool) -> Result<Option<Zeroizing<String>>, Error> {
    let failed = |error: ReadlineError| Error::because(Cause::Internal, format!("the terminal: {error}"));
    let config = Config::builder()
        .auto_add_history(false)
        .behavior(Behavior::PreferTerm)
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .color_mode(if colour { ColorMode::Enabled } else { ColorMode::Disabled })
        .build();
    let mut editor: Editor<Words, MemHistory> = Editor::with_history(config, MemHistory::new()).map_err(failed)?;
    editor.set_helper(Some(Words));
    match editor.readline("Words: ") {
        Ok(line) => Ok(Some(Zeroizing::new(line))),
        Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Knows the words.
struct Words;

impl Helper for Words {}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, typed) = word_at(line, pos);
        let mut candidates: Vec<String> = completions(typed).into_iter().map(str::to_owned).collect();
        if let [only] = candidates.as_mut_slice() {
            only.push(' ');
        }
        Ok((start, candidates))
    }
}

/// Text behind the line: shown, never taken over.
struct Note(String);

impl Hint for Note {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Words {
    type Hint = Note;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Note> {
        (pos == line.len()).then(|| note(line)).flatten().map(Note)
    }
}

impl Highlighter for Words {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if is_qr(line) || !spans(line).any(|(start, word)| is_wrong(line, start, word)) {
            return Cow::Borrowed(line);
        }
        let mut marked = String::with_capacity(line.len() + 32);
        let mut done = 0;
        for (start, word) in spans(line).filter(|(start, word)| is_wrong(line, *start, word)) {
            marked.push_str(&line[done..start]);
            marked.push_str(WRONG);
            marked.push_str(word);
            marked.push_str(RESET);
            done = start + word.len();
        }
        marked.push_str(&line[done..]);
        Cow::Owned(marked)
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("{FAINT}{hint}{RESET}"))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        true
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match code::check(context.input()) {
            Ok(()) => ValidationResult::Valid(None),
            Err(error) => ValidationResult::Invalid(Some(format!("   <- {error}"))),
        })
    }
}

/// The words of a line with their places.
fn spans(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = line.as_ptr() as usize;
    line.split_whitespace().map(move |word| (word.as_ptr() as usize - start, word))
}

/// The word that is being typed at `pos`, and its place.
fn word_at(line: &str, pos: usize) -> (usize, &str) {
    let before = line.get(..pos).unwrap_or(line);
    let start =
        before.rfind(char::is_whitespace).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    (start, &before[start..])
}

/// A QR text is not made of words.
fn is_qr(line: &str) -> bool {
    line.trim_start().get(..9).is_some_and(|head| head.eq_ignore_ascii_case("HANDFAST:"))
}

/// Numbers of a copied list are skipped by the library, and so they are here.
fn is_number(word: &str) -> bool {
    word.trim_end_matches(['.', ',', ')']).bytes().all(|b| b.is_ascii_digit())
}

/// A finished word that is none, or an unfinished one that cannot become one any more.
fn is_wrong(line: &str, start: usize, word: &str) -> bool {
    let finished = start + word.len() < line.len();
    let plain = word.trim_end_matches([',', ';', '.']);
    let can_be = if finished { find_word(plain).is_some() } else { !completions(plain).is_empty() };
    !can_be && !is_number(word)
}

/// What is worth saying about the line so far.
fn note(line: &str) -> Option<String> {
    if is_qr(line) || line.trim().is_empty() {
        return None;
    }
    let words: Vec<(usize, &str)> = spans(line).filter(|(_, word)| !is_number(word)).collect();
    if let Some((index, (_, word))) = words.iter().enumerate().find(|(_, (start, word))| is_wrong(line, *start, word)) {
        let near = handfast::suggest(word);
        let ask = if near.is_empty() { String::new() } else { format!(": {}?", near.join(", ")) };
        return Some(format!("   <- word {} is none{ask}", index + 1));
    }
    let finished = line.ends_with(char::is_whitespace);
    let last = words.last().map(|(_, word)| *word).filter(|_| !finished);
    if let Some([only]) = last.map(completions).as_deref()
        && let Some(rest) = last.and_then(|typed| only.get(typed.len()..)).filter(|rest| !rest.is_empty())
    {
        return Some(rest.to_owned());
    }
    Some(format!("   ({} of {WORD_COUNT})", words.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c9_the_word_under_the_cursor_is_completed() {
        assert_eq!(word_at("legal win", 9), (6, "win"));
        assert_eq!(word_at("legal win", 3), (0, "leg"));
        assert_eq!(word_at("legal ", 6), (6, ""));
        let history = MemHistory::new();
        let complete =
            |line: &str| Words.complete(line, line.len(), &Context::new(&history)).expect("it cannot fail").1;
        assert_eq!(complete("legal sausa"), ["sausage "]);
        assert_eq!(complete("zo"), ["zone", "zoo"]);
        assert!(complete("legal ").is_empty());
    }

    #[test]
    fn c9_a_word_that_is_none_is_marked_while_it_is_typed() {
        let marked = |line: &str| Words.highlight(line, 0).into_owned();
        assert_eq!(marked("legal susage thank"), "legal \x1b[4;31msusage\x1b[0m thank");
        assert_eq!(marked("legal sausax"), "legal \x1b[4;31msausax\x1b[0m");
        assert_eq!(marked("legal saus"), "legal saus");
        assert_eq!(marked("legal sau thank"), "legal \x1b[4;31msau\x1b[0m thank");
        assert_eq!(marked("1. legal 2. winner"), "1. legal 2. winner");
        assert_eq!(marked("HANDFAST:CEBAGBAF"), "HANDFAST:CEBAGBAF");
    }

    #[test]
    fn c9_notes_count_complete_and_suggest() {
        assert_eq!(note(""), None);
        assert_eq!(note("legal winner ").as_deref(), Some("   (2 of 12)"));
        assert_eq!(note("legal sausa").as_deref(), Some("ge"));
        assert_eq!(note("legal zo").as_deref(), Some("   (2 of 12)"));
        assert!(note("legal susage thank").is_some_and(|note| note.starts_with("   <- word 2 is none: sausage")));
        assert_eq!(note("handfast:abc"), None);
    }
}
