//! Text in the columns of a terminal.

/// Columns that a text takes at most: what is not ASCII may be wide.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// As much of a text as fits into `columns` with the cursor behind it.
pub(crate) fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        taken += char_width(c);
        (taken >= columns).then_some(at)
    });
    end.map_or(text, |end| &text[..end])
}

/// The text with every line that is wider than `columns` broken between words, where it has any.
pub(crate) fn broken(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let mut room = columns;
        // An indent alone is no line.
        let mut is_begun = false;
        for word in line.split_inclusive(' ') {
            let (needed, whole) = (width(word.trim_end()), width(word));
            if needed > room && is_begun {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                room = columns;
            }
            out.push_str(word);
            is_begun |= needed > 0;
            room = room.saturating_sub(whole);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_too_wide_are_broken_between_words_and_nothing_is_lost() {
        assert_eq!(broken("one two three", 13), "one two three");
        assert_eq!(broken("one two three", 12), "one two\nthree");
        assert_eq!(broken("one two three", 7), "one two\nthree");
        assert_eq!(broken("one  two\n\n  three four", 9), "one  two\n\n  three\nfour");
        assert_eq!(broken("  abcdefgh", 9), "  abcdefgh");
        assert_eq!(broken("HANDFAST:AAAAAAAA b", 5), "HANDFAST:AAAAAAAA\nb");
        assert_eq!(broken("数数 数数", 6), "数数\n数数");
        for columns in 1..40 {
            let text = "Note: a line of usual words, neither short nor long; and a bit more.";
            let lines = broken(text, columns);
            assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
            let fits = |line: &str| width(line) <= columns || !line.contains(' ');
            assert!(lines.lines().all(fits), "{columns}: {lines}");
        }
    }

    #[test]
    fn the_line_below_fits_into_the_terminal_with_its_cursor() {
        assert_eq!(cut("Waiting: 9:59 left", 80), "Waiting: 9:59 left");
        assert_eq!(cut("Waiting: 9:59 left", 18), "Waiting: 9:59 lef");
        assert_eq!(cut("Waiting: 9:59 left", 19), "Waiting: 9:59 left");
        assert_eq!(cut("数数数", 6), "数数");
        assert_eq!(cut("x", 1), "");
    }
}
