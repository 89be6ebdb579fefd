//! The comparison (section 7.3, appendix B): 48 bits of a handshake that two people read from both screens, as seven
//! emoji with their names, or as three numbers for who cannot see or say them.

use std::fmt;

use crate::crypto::{Kdf, label};

/// How many emoji are shown.
pub const EMOJI: usize = 7;
/// How many numbers are shown.
pub const NUMBERS: usize = 3;

/// Bits of an emoji: an index into [`TABLE`].
const EMOJI_BITS: usize = 6;
/// Bits of a number.
const NUMBER_BITS: usize = 13;
/// Added to each number, so that all of them have four digits.
const NUMBER_OFFSET: u16 = 1000;

/// What both screens show: equal if and only if both sides made the same handshake, but for a chance of 2^-42 (2^-39 for
/// the numbers).
///
/// It is no secret, but it belongs on two screens and not into a log: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sas([u8; 6]);

impl Sas {
    /// `Expand(Extract(salt = L("sas"), h), challenge_I ‖ r_J ‖ cb, 6)`.
    pub(crate) fn derive(h: &[u8; 32], challenge_i: &[u8; 32], r_j: &[u8; 32], cb: &[u8; 32]) -> Sas {
        Sas(Kdf::extract(&label("sas"), h).expand_unlabelled(&[challenge_i, r_j, cb]))
    }

    /// The emoji, from the first 42 bits.
    pub fn emoji(&self) -> [&'static str; EMOJI] {
        self.rows().map(|(emoji, _)| emoji)
    }

    /// The English names of the emoji, which are part of the wire format as well: people read them out.
    pub fn names(&self) -> [&'static str; EMOJI] {
        self.rows().map(|(_, name)| name)
    }

    /// The numbers, from the first 39 bits: 1000 to 9191 each.
    pub fn numbers(&self) -> [u16; NUMBERS] {
        std::array::from_fn(|n| NUMBER_OFFSET + self.group(n, NUMBER_BITS))
    }

    /// The numbers as people read them: `1234 5678 9012`.
    pub fn digits(&self) -> String {
        let [a, b, c] = self.numbers();
        format!("{a} {b} {c}")
    }

    fn rows(&self) -> [(&'static str, &'static str); EMOJI] {
        std::array::from_fn(|n| TABLE[usize::from(self.group(n, EMOJI_BITS))])
    }

    /// The `n`th group of `bits` bits, the first bit of the first byte being the highest of the first group.
    fn group(&self, n: usize, bits: usize) -> u16 {
        let [a, b, c, d, e, f] = self.0;
        let all = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let group = (all >> (48 - bits * (n + 1))) & ((1 << bits) - 1);
        u16::try_from(group).expect("a group has at most 13 bits")
    }
}

impl fmt::Debug for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sas(..)")
    }
}

/// Appendix B. The order is wire format: two devices that disagree about it show different pictures for the same bits.
pub const TABLE: [(&str, &str); 64] = [
    ("⚓", "anchor"),
    ("🍎", "apple"),
    ("⚽", "ball"),
    ("🎈", "balloon"),
    ("🍌", "banana"),
    ("🔔", "bell"),
    ("🚲", "bicycle"),
    ("📕", "book"),
    ("🦋", "butterfly"),
    ("🌵", "cactus"),
    ("🎂", "cake"),
    ("🐫", "camel"),
    ("🕯", "candle"),
    ("🚗", "car"),
    ("🏰", "castle"),
    ("🍒", "cherries"),
    ("⏰", "clock"),
    ("☁", "cloud"),
    ("🌽", "corn"),
    ("🦀", "crab"),
    ("👑", "crown"),
    ("☕", "cup"),
    ("💎", "diamond"),
    ("🐬", "dolphin"),
    ("🥁", "drum"),
    ("🦆", "duck"),
    ("🐘", "elephant"),
    ("🔥", "fire"),
    ("🐟", "fish"),
    ("🚩", "flag"),
    ("🌻", "flower"),
    ("🦊", "fox"),
    ("🐸", "frog"),
    ("👻", "ghost"),
    ("🎁", "gift"),
    ("👓", "glasses"),
    ("🌍", "globe"),
    ("🍇", "grapes"),
    ("🎸", "guitar"),
    ("🔨", "hammer"),
    ("🎩", "hat"),
    ("❤", "heart"),
    ("🐴", "horse"),
    ("🏠", "house"),
    ("🍦", "ice cream"),
    ("🔑", "key"),
    ("🐞", "ladybird"),
    ("🍁", "leaf"),
    ("🍋", "lemon"),
    ("🦁", "lion"),
    ("🔒", "lock"),
    ("🌙", "moon"),
    ("🍄", "mushroom"),
    ("🐙", "octopus"),
    ("🦉", "owl"),
    ("🐧", "penguin"),
    ("🍕", "pizza"),
    ("🌈", "rainbow"),
    ("🚀", "rocket"),
    ("✂", "scissors"),
    ("🐌", "snail"),
    ("⭐", "star"),
    ("🌲", "tree"),
    ("☂", "umbrella"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_first_bits_are_the_first_emoji_and_the_last_six_bits_are_not_used() {
        // 1, 2, 3, … in groups of six bits.
        let bits = (1..=8u64).fold(0, |all, n| (all << 6) | n);
        let [_, _, bytes @ ..] = bits.to_be_bytes();
        let sas = Sas(bytes);
        assert_eq!(sas.names(), ["apple", "ball", "balloon", "banana", "bell", "bicycle", "book"]);
        assert_eq!(sas.emoji()[0], "🍎");
        let mut other = bytes;
        other[5] ^= 0x3f;
        assert_eq!(Sas(other).names(), sas.names());
    }

    #[test]
    fn the_numbers_have_four_digits_each_and_use_39_bits() {
        assert_eq!(Sas([0; 6]).digits(), "1000 1000 1000");
        assert_eq!(Sas([0xff; 6]).numbers(), [9191; NUMBERS]);
        let bits: u64 = (1 << 35) | (2 << 22) | (3 << 9) | 0x1ff;
        let [_, _, bytes @ ..] = bits.to_be_bytes();
        assert_eq!(Sas(bytes).numbers(), [1001, 1002, 1003]);
    }

    #[test]
    fn no_two_rows_of_the_table_share_a_picture_or_a_name_and_none_needs_more_than_one_character() {
        let emoji: BTreeSet<&str> = TABLE.iter().map(|(emoji, _)| *emoji).collect();
        let names: BTreeSet<&str> = TABLE.iter().map(|(_, name)| *name).collect();
        assert_eq!((emoji.len(), names.len()), (64, 64));
        assert!(emoji.iter().all(|e| e.chars().count() == 1));
    }

    #[test]
    fn debug_does_not_show_what_is_on_the_screens() {
        assert_eq!(format!("{:?}", Sas([7; 6])), "Sas(..)");
    }
}
