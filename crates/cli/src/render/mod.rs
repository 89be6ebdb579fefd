//! How things look as text. Each function makes text from a value and writes nothing; what comes from a peer is cleaned
//! again, whatever the library has done before.

pub(crate) mod code;
pub(crate) mod comparison;
pub(crate) mod event;
pub(crate) mod lists;
pub(crate) mod status;
mod table;

/// A text that cannot move the cursor, change colours or reorder its neighbours.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// What went wrong and what to do about it, on as many lines as that takes.
pub(crate) fn error(text: &str, hint: &str) -> String {
    // Messages of the parser of config.toml have several lines, and they are ours.
    let lines: Vec<String> = text.lines().map(clean).collect();
    let text = lines.join("\n");
    if hint.is_empty() { format!("error: {text}") } else { format!("error: {text}\nhint:  {}", clean(hint)) }
}

/// A number of things: `1 node`, `2 nodes`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c8_a_name_cannot_paint_the_terminal() {
        assert_eq!(clean("bob\x1b[2J\r\u{202e}x\u{9b}"), "bob\u{fffd}[2J\u{fffd}\u{fffd}x\u{fffd}");
        assert_eq!(clean("Bärbels Läptop 数"), "Bärbels Läptop 数");
    }

    #[test]
    fn an_error_has_a_hint_on_a_line_of_its_own() {
        assert_eq!(error("no", "try again"), "error: no\nhint:  try again");
        assert_eq!(error("no\x07", ""), "error: no\u{fffd}");
    }
}
