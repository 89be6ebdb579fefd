//! What a device says of itself inside H3 and H4 (section 7): a name, a type, its clock. Signed, never trusted.

use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::time::UnixTime;
use crate::wire::{Malformed, Reader};

/// Longest encoded info.
pub const MAX_INFO_LEN: usize = 512;
/// Longest device name in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest device name in grapheme clusters (what a person sees as characters).
pub const MAX_NAME_GRAPHEMES: usize = 32;

const NAME: u8 = 1;
const KIND: u8 = 2;
const PLATFORM: u8 = 3;
const VERSION: u8 = 4;
const CLOCK: u8 = 5;
const CRITICAL: u8 = 128;

/// A device name that is safe to show: no control, bidirectional or zero-width characters, at most 32 characters and
/// 64 bytes, not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

impl DeviceName {
    /// What is left of `text` after removing what must not be shown, cut to the limits; `device` if nothing is left.
    pub fn clean(text: &str) -> DeviceName {
        DeviceName::try_clean(text).unwrap_or_else(|| DeviceName("device".to_owned()))
    }

    /// What is left of `text` after removing what must not be shown, cut to the limits; `None` if nothing is left. Any
    /// white space is one space, so that no gap looks like the end of the name.
    pub fn try_clean(text: &str) -> Option<DeviceName> {
        let visible: String = text.chars().filter(|c| is_showable(*c)).nfc().collect();
        let visible = visible.split_whitespace().collect::<Vec<&str>>().join(" ");
        let mut name = String::new();
        for grapheme in visible.graphemes(true).take(MAX_NAME_GRAPHEMES) {
            if name.len() + grapheme.len() > MAX_NAME_BYTES {
                break;
            }
            name.push_str(grapheme);
        }
        let name = name.trim_end();
        (!name.is_empty()).then(|| DeviceName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Neither a control, nor a character that reorders, joins or hides its neighbours (Unicode's default ignorable ones, and
/// those of bidirectional text), nor one that is blank without being white space.
fn is_showable(c: char) -> bool {
    let ignorable = matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}');
    // An empty Braille cell, a Khitan filler, controls of hieroglyphs, a musical head that is not drawn.
    let blank = matches!(c, '\u{2800}' | '\u{16fe4}' | '\u{13430}'..='\u{13455}' | '\u{1d159}');
    // Tabs and line ends are white space and become a space.
    (!c.is_control() || c.is_whitespace()) && !ignorable && !blank
}

/// What kind of device it is, as far as people care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    /// Anything else, or unknown.
    Other,
    /// A desktop or laptop computer.
    Computer,
    /// A phone.
    Phone,
    /// A tablet.
    Tablet,
    /// A machine without a screen.
    Server,
}

impl DeviceType {
    /// The name used in events and lists.
    pub fn name(self) -> &'static str {
        match self {
            DeviceType::Other => "other",
            DeviceType::Computer => "computer",
            DeviceType::Phone => "phone",
            DeviceType::Tablet => "tablet",
            DeviceType::Server => "server",
        }
    }

    /// The type with this name; [`DeviceType::Other`] for any other text.
    pub fn from_name(name: &str) -> DeviceType {
        [DeviceType::Computer, DeviceType::Phone, DeviceType::Tablet, DeviceType::Server]
            .into_iter()
            .find(|t| t.name() == name)
            .unwrap_or(DeviceType::Other)
    }
}

/// What one side tells the other about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name it claims.
    pub name: DeviceName,
    /// The type it claims.
    pub kind: DeviceType,
    /// Its wall clock, advice for the presence record (10.4).
    pub clock: Option<UnixTime>,
}

impl DeviceInfo {
    /// The TLVs, ascending.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |kind: u8, value: &[u8]| {
            out.push(kind);
            out.push(u8::try_from(value.len()).expect("values are at most 64 bytes"));
            out.extend_from_slice(value);
        };
        put(NAME, self.name.as_str().as_bytes());
        put(KIND, self.kind.name().as_bytes());
        if let Some(clock) = self.clock {
            put(CLOCK, &clock.0.to_be_bytes());
        }
        out
    }

    /// Reads TLVs: ascending types, no duplicates; an unknown critical type (128 and above) is refused, other unknown
    /// ones are skipped. A name with unsafe characters is cleaned, not refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<DeviceInfo, Malformed> {
        let mut info = DeviceInfo { name: DeviceName::clean(""), kind: DeviceType::Other, clock: None };
        let (mut rest, mut last) = (bytes, 0);
        while let [kind, len, tail @ ..] = rest {
            let (value, tail) = tail.split_at_checked(usize::from(*len)).ok_or(Malformed)?;
            if *kind <= last {
                return Err(Malformed);
            }
            match *kind {
                NAME => info.name = DeviceName::clean(std::str::from_utf8(value).map_err(|_| Malformed)?),
                KIND => info.kind = DeviceType::from_name(std::str::from_utf8(value).map_err(|_| Malformed)?),
                CLOCK => {
                    let mut reader = Reader::new(value);
                    info.clock = Some(UnixTime(reader.u64()?));
                    reader.end()?;
                }
                PLATFORM | VERSION => {}
                CRITICAL.. => return Err(Malformed),
                _ => {}
            }
            (last, rest) = (*kind, tail);
        }
        if rest.is_empty() { Ok(info) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_is_cut_down_to_what_is_safe_to_show() {
        let cases = [
            ("alice\u{1b}[31m", "alice[31m"),
            ("\u{202e}ecila", "ecila"),
            ("al\u{200b}ice\u{200d}", "alice"),
            (" \t\n", "device"),
            ("", "device"),
            ("Ünïcode 📱", "Ünïcode 📱"),
            ("\u{2800}\u{3164}\u{115f}\u{1160}\u{ffa0}\u{1d159}\u{16fe4}", "device"),
            ("bob\u{2800}\u{3164}\u{ffa0}s laptop", "bobs laptop"),
            ("bob\u{3000}\u{2003}\u{2028}(verified)\u{a0}", "bob (verified)"),
            ("bob\nAllow", "bob Allow"),
            ("e\u{2800}\u{301}", "\u{e9}"),
        ];
        for (text, clean) in cases {
            assert_eq!(DeviceName::clean(text).as_str(), clean);
        }
        let long = DeviceName::clean(&"x".repeat(10_000));
        assert_eq!(long.as_str().len(), 32);
        assert!(DeviceName::clean(&"漢".repeat(100)).as_str().len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn info_survives_and_an_unknown_critical_field_is_refused() {
        let info = DeviceInfo { name: DeviceName::clean("alice"), kind: DeviceType::Phone, clock: Some(UnixTime(7)) };
        let bytes = info.to_bytes();
        assert_eq!(DeviceInfo::from_bytes(&bytes), Ok(info.clone()));
        let mut extended = bytes.clone();
        extended.extend_from_slice(&[100, 1, 0]);
        assert_eq!(DeviceInfo::from_bytes(&extended), Ok(info));
        let mut critical = bytes.clone();
        critical.extend_from_slice(&[200, 1, 0]);
        assert_eq!(DeviceInfo::from_bytes(&critical), Err(Malformed));
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(DeviceInfo::from_bytes(&twice), Err(Malformed));
        assert_eq!(DeviceInfo::from_bytes(&[1, 5, b'a']), Err(Malformed));
        assert_eq!(DeviceInfo::from_bytes(&[5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed), "a clock of nine bytes");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Any bytes are taken or refused, and what is taken is safe to show and survives another round.
        #[test]
        fn info_from_any_bytes(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..MAX_INFO_LEN),
            kind in 0..9u8,
            name in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            let tlv = [&[kind, name.len() as u8][..], &name].concat();
            for bytes in [bytes, tlv] {
                if let Ok(info) = DeviceInfo::from_bytes(&bytes) {
                    proptest::prop_assert!(info.to_bytes().len() <= MAX_INFO_LEN);
                    proptest::prop_assert_eq!(DeviceInfo::from_bytes(&info.to_bytes()), Ok(info));
                }
            }
        }
    }
}
