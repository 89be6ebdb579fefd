//! Twelve words of the English BIP39 list: 128 bits and a 4-bit checksum. The list and the checksum come from the
//! `bip39` crate; reading what people type, and telling them which word is wrong, is done here.

use bip39::{Language, Mnemonic};
use unicode_normalization::UnicodeNormalization as _;

use crate::code::Code;
use crate::secret::Secret;

/// Words in a code.
pub const WORD_COUNT: usize = 12;
/// A prefix of this many letters is unique in the list.
const PREFIX_LEN: usize = 4;
/// Most words suggested for a wrong one: more would not help anybody.
const MAX_SUGGESTIONS: usize = 3;

/// Why a text is not twelve right words, with the help a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not twelve words.
    #[error("a code has {WORD_COUNT} words; this text has {0}")]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {position}, \"{word}\", is not a word of a code{}", did_you_mean(suggestions))]
    Unknown {
        /// Which word, counted from 1.
        position: usize,
        /// The word as typed, cut to a readable length.
        word: String,
        /// The nearest words of the list, best first.
        suggestions: Vec<&'static str>,
    },
    /// All twelve are words of the list, but the checksum says at least one is wrong.
    #[error("these are words, but not the twelve of a code: one is wrong or two are swapped{}", maybe(corrections))]
    Checksum {
        /// Single words whose change by one letter would make the checksum right: position (from 1) and word.
        corrections: Vec<(usize, &'static str)>,
    },
}

fn did_you_mean(suggestions: &[&'static str]) -> String {
    if suggestions.is_empty() { String::new() } else { format!("; did you mean {}?", suggestions.join(", ")) }
}

fn maybe(corrections: &[(usize, &'static str)]) -> String {
    if corrections.is_empty() {
        return String::new();
    }
    let list: Vec<String> = corrections.iter().map(|(p, w)| format!("word {p} \"{w}\"")).collect();
    format!("; perhaps {}", list.join(" or "))
}

/// The twelve words of a code, lower case.
pub fn to_words(code: &Code) -> [&'static str; WORD_COUNT] {
    let mnemonic = mnemonic(code.entropy().expose());
    let mut words = [""; WORD_COUNT];
    for (slot, word) in words.iter_mut().zip(mnemonic.words()) {
        *slot = word;
    }
    words
}

/// Reads twelve words: any case, any white space (commas and list numbers from a copied list included), NFKD, unique
/// prefixes of at least four letters.
pub fn parse(text: &str) -> Result<Code, WordsError> {
    let text: String = text.nfkd().collect::<String>().to_lowercase();
    let typed: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '.' | '-' | '_'))
        .filter(|w| !w.is_empty() && !w.chars().all(|c| c.is_ascii_digit()))
        .collect();
    if typed.len() != WORD_COUNT {
        return Err(WordsError::Count(typed.len()));
    }
    let mut words = [""; WORD_COUNT];
    for (index, (slot, word)) in words.iter_mut().zip(&typed).enumerate() {
        *slot = find(word).ok_or_else(|| WordsError::Unknown {
            position: index + 1,
            word: word.chars().take(24).filter(|c| !c.is_control()).collect(),
            suggestions: suggest(word),
        })?;
    }
    entropy(&words)
        .map(|e| Code::from_entropy(Secret::new(e)))
        .ok_or_else(|| WordsError::Checksum { corrections: corrections(&words) })
}

/// The words of the list that start with `prefix` (any case), in order. Empty for an empty prefix.
pub fn completions(prefix: &str) -> Vec<&'static str> {
    let prefix = prefix.to_lowercase();
    let matches = |word: &&&'static str| !prefix.is_empty() && word.starts_with(&prefix);
    Language::English.word_list().iter().filter(matches).copied().collect()
}

/// The word of the list that `typed` stands for: itself, or the one it is a prefix of four or more letters of.
pub fn find(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase();
    let candidates = completions(&typed);
    match candidates.as_slice() {
        [first, ..] if *first == typed => Some(first),
        [only] if typed.len() >= PREFIX_LEN => Some(only),
        _ => None,
    }
}

/// The nearest words of the list, best first.
pub fn suggest(typed: &str) -> Vec<&'static str> {
    let typed: String = typed.chars().take(16).collect();
    let mut near: Vec<(usize, &'static str)> = Language::English
        .word_list()
        .iter()
        .map(|word| (distance(&typed, word), *word))
        .filter(|(d, _)| *d <= 2)
        .collect();
    near.sort_by_key(|(d, word)| (*d, !word.starts_with(typed.chars().next().unwrap_or(' '))));
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, word)| word).collect()
}

fn mnemonic(entropy: &[u8; 16]) -> Mnemonic {
    Mnemonic::from_entropy_in(Language::English, entropy).expect("16 bytes are a length BIP39 has")
}

fn entropy(words: &[&str; WORD_COUNT]) -> Option<[u8; 16]> {
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).ok()?;
    let (bytes, _) = mnemonic.to_entropy_array();
    bytes[..16].try_into().ok()
}

fn corrections(words: &[&'static str; WORD_COUNT]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for position in 0..WORD_COUNT {
        for candidate in Language::English.word_list() {
            if distance(words[position], candidate) != 1 {
                continue;
            }
            let mut changed = *words;
            changed[position] = candidate;
            if entropy(&changed).is_some() {
                found.push((position + 1, *candidate));
            }
        }
    }
    found.truncate(MAX_SUGGESTIONS);
    found
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Rng;

    const TEXT: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

    fn bytes(code: &Code) -> [u8; 16] {
        *code.entropy().expose()
    }

    #[test]
    fn bip39_known_answers() {
        assert_eq!(bytes(&parse(TEXT).expect("a code")), [0x7f; 16]);
        let zero = "abandon ".repeat(11) + "about";
        assert_eq!(bytes(&parse(&zero).expect("a code")), [0; 16]);
        let ones = "zoo ".repeat(11) + "wrong";
        assert_eq!(bytes(&parse(&ones).expect("a code")), [0xff; 16]);
    }

    #[test]
    fn a7_b3_ten_thousand_codes_all_differ_and_survive_case_spacing_prefixes_and_compatibility_forms() {
        let mut rng = Rng::from_seed(Secret::new([3; 32]));
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..10_000 {
            let code = Code::generate(&mut rng);
            let words = to_words(&code);
            assert!(seen.insert(words));
            let text = match round % 5 {
                0 => words.join(" "),
                1 => words.join("\t\n  ").to_uppercase(),
                2 => words.map(|w| w.chars().take(4).collect::<String>()).join(","),
                3 => words.iter().enumerate().map(|(i, w)| format!("{}. {w}\n", i + 1)).collect(),
                // Full-width letters are the compatibility forms of the plain ones.
                _ => words.join(" ").chars().map(full_width).collect(),
            };
            assert!(parse(&text).expect("a code") == code, "{text}");
        }
    }

    fn full_width(c: char) -> char {
        match c {
            'a'..='z' => char::from_u32(u32::from(c) - u32::from('a') + 0xff41).unwrap_or(c),
            _ => c,
        }
    }

    #[test]
    fn c9_a_wrong_word_is_named_with_its_position_and_the_nearest_words() {
        let text = TEXT.replace("sausage", "susage");
        let Err(WordsError::Unknown { position, word, suggestions }) = parse(&text) else {
            panic!("must be refused");
        };
        assert_eq!((position, word.as_str()), (6, "susage"));
        assert_eq!(suggestions.first(), Some(&"sausage"));
        // Three letters are not enough unless they are a word themselves.
        assert!(matches!(parse(&TEXT.replace("winner", "win")), Err(WordsError::Checksum { .. })));
        assert!(matches!(parse(&TEXT.replace("winner", "wag")), Err(WordsError::Unknown { position: 2, .. })));
    }

    #[test]
    fn attack_35_counts_checksums_and_emoji_names_are_refused() {
        assert_eq!(parse("").err(), Some(WordsError::Count(0)));
        assert_eq!(parse(&TEXT[..TEXT.len() - 7]).err(), Some(WordsError::Count(11)));
        assert_eq!(parse(&format!("{TEXT} zoo")).err(), Some(WordsError::Count(13)));
        let swapped = TEXT.replace("year wave", "wave year");
        assert!(matches!(parse(&swapped), Err(WordsError::Checksum { .. })));
        assert!(parse("anchor apple ball balloon banana bell bicycle book butterfly cactus cake camel").is_err());
    }

    #[test]
    fn a_wrong_checksum_offers_single_letter_corrections_and_applies_none() {
        let text = TEXT.replace("wave", "save");
        let Err(WordsError::Checksum { corrections }) = parse(&text) else { panic!("must be refused") };
        assert!(corrections.len() <= MAX_SUGGESTIONS);
        assert!(corrections.contains(&(5, "wave")), "{corrections:?}");
    }

    #[test]
    fn completion_knows_the_list() {
        assert_eq!(completions("zo"), ["zone", "zoo"]);
        assert_eq!(find("ADD"), Some("add"));
        assert_eq!(find("addi"), Some("addict"));
        assert_eq!(find("add1"), None);
        assert!(completions("").is_empty());
    }
}
