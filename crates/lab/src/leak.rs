//! Looks for secrets in bytes, in every encoding in which a program could let one slip.

use std::path::Path;

use anyhow::{Context as _, Result};
use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use serde::Serialize;

/// A needle shorter than this would be found by chance.
const NEEDLE_MIN: usize = 6;

/// Of a binary secret this many first bytes are looked for by themselves too, since logs like to cut things short.
const PREFIX_BYTES: usize = 8;

/// So many words of a code in a row are a leak: three of them occur in no text by chance.
const WORDS_RUN: usize = 3;

/// What people and programs put between words.
const WORD_SEPARATORS: [&str; 7] = [" ", "", ",", ", ", "-", "\n", "\", \""];

/// Bytes to look for, each with the name of what it would give away.
pub struct Needles {
    items: Vec<(String, Vec<u8>)>,
    /// Needles by their first two bytes, so that a search looks at each position once.
    by_start: Vec<Vec<usize>>,
}

/// A needle that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In what.
    pub place: String,
    /// At which byte.
    pub offset: usize,
    /// Which needle: the secret and its encoding.
    pub needle: String,
}

impl Default for Needles {
    fn default() -> Self {
        Self { items: Vec::new(), by_start: vec![Vec::new(); 1 << 16] }
    }
}

impl Needles {
    /// Adds a binary secret in all encodings: raw, hexadecimal, base32, base58, base64, and as printed byte arrays.
    pub fn add_bytes(&mut self, label: &str, secret: &[u8]) {
        self.add(&format!("{label} raw"), secret);
        self.add_encoded(label, secret);
        if secret.len() > PREFIX_BYTES {
            let start = format!("{label} start");
            self.add(&format!("{start} raw"), &secret[..PREFIX_BYTES]);
            self.add_hex(&start, &secret[..PREFIX_BYTES]);
        }
    }

    /// Adds a text in plain, upper and lower case, and in the encodings of its bytes.
    pub fn add_text(&mut self, label: &str, text: &str) {
        for (form, text) in [("", text.to_owned()), (" upper", text.to_uppercase()), (" lower", text.to_lowercase())] {
            self.add(&format!("{label}{form}"), text.as_bytes());
        }
        self.add_encoded(label, text.as_bytes());
    }

    /// Adds the words of a code: any three in a row, with every separator.
    pub fn add_words(&mut self, label: &str, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        for separator in WORD_SEPARATORS {
            for run in words.windows(WORDS_RUN.min(words.len().max(1))) {
                let joined = run.join(separator);
                self.add(&format!("{label} words"), joined.as_bytes());
                self.add(&format!("{label} words upper"), joined.to_uppercase().as_bytes());
            }
        }
        self.add_encoded(&format!("{label} words"), words.join(" ").as_bytes());
    }

    /// How many needles there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Is there nothing to look for?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Where any needle occurs in `bytes`, which are called `place` in the findings.
    #[must_use]
    pub fn search(&self, place: &str, bytes: &[u8]) -> Vec<Finding> {
        let mut found = Vec::new();
        for (offset, pair) in bytes.windows(2).enumerate() {
            for index in &self.by_start[start_of(pair)] {
                let (needle, wanted) = &self.items[*index];
                if bytes[offset..].starts_with(wanted) {
                    found.push(Finding { place: place.to_owned(), offset, needle: needle.clone() });
                }
            }
        }
        found
    }

    /// Where any needle occurs in the file `path`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search_file(&self, path: &Path) -> Result<Vec<Finding>> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(self.search(&path.display().to_string(), &bytes))
    }

    fn add_encoded(&mut self, label: &str, secret: &[u8]) {
        self.add_hex(label, secret);
        for (name, encoding) in [("base64", BASE64_NOPAD), ("base64url", BASE64URL_NOPAD)] {
            for (shift, core) in aligned(&encoding, 3, 6, secret) {
                self.add(&format!("{label} {name}+{shift}"), core.as_bytes());
            }
        }
        for (shift, core) in aligned(&BASE32_NOPAD, 5, 5, secret) {
            self.add(&format!("{label} base32+{shift}"), core.as_bytes());
            self.add(&format!("{label} base32+{shift} lower"), core.to_lowercase().as_bytes());
        }
        self.add(&format!("{label} base58"), base58(secret).as_bytes());
        // As Rust's `{:?}` and `{:x?}` print byte arrays.
        for (name, separator) in [("decimal", ", "), ("decimal", ",")] {
            let list: Vec<String> = secret.iter().map(u8::to_string).collect();
            self.add(&format!("{label} {name} list"), list.join(separator).as_bytes());
        }
    }

    fn add_hex(&mut self, label: &str, secret: &[u8]) {
        self.add(&format!("{label} hex"), HEXLOWER.encode(secret).as_bytes());
        self.add(&format!("{label} hex upper"), HEXUPPER.encode(secret).as_bytes());
        for separator in [":", " ", ", "] {
            let list: Vec<String> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            self.add(&format!("{label} hex list"), list.join(separator).as_bytes());
        }
    }

    fn add(&mut self, label: &str, bytes: &[u8]) {
        if bytes.len() >= NEEDLE_MIN && !self.items.iter().any(|(_, known)| known == bytes) {
            self.by_start[start_of(bytes)].push(self.items.len());
            self.items.push((label.to_owned(), bytes.to_owned()));
        }
    }
}

/// The encoding of `secret` inside something longer, for each of the `group` places at which it can begin in a group
/// of bytes: only the characters that do not depend on what stands before and after it.
fn aligned(encoding: &Encoding, group: usize, bits: usize, secret: &[u8]) -> Vec<(usize, String)> {
    (0..group)
        .map(|shift| {
            let mut padded = vec![0; shift];
            padded.extend_from_slice(secret);
            let encoded = encoding.encode(&padded);
            let first = (shift * 8).div_ceil(bits);
            let end = (padded.len() * 8 / bits).max(first);
            (shift, encoded[first..end].to_owned())
        })
        .collect()
}

/// Base58 as Bitcoin and libp2p write it.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 58).unwrap_or_default();
            carry /= 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).unwrap_or_default());
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    digits.extend(std::iter::repeat_n(0, zeros));
    digits.iter().rev().map(|digit| char::from(ALPHABET[usize::from(*digit)])).collect()
}

fn start_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, HEXUPPER, Needles, base58};

    const SECRET: [u8; 32] = *b"\x00\xfe\x93k\xb1\x11zzz\x7f3\xd0\x0d\xf0\xff\xff~>?\x80\x9a\xcc\x01\x02\x03abc\xeeyyz";

    fn needles() -> Needles {
        let mut needles = Needles::default();
        needles.add_bytes("key", &SECRET);
        needles
    }

    #[test]
    fn base58_is_the_one_of_bitcoin() {
        assert_eq!(base58(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(base58(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd]), "11233QC4");
        assert_eq!(base58(&[]), "");
    }

    #[test]
    fn a_key_is_found_in_every_encoding_at_every_alignment() {
        let needles = needles();
        for before in 0..16 {
            let mut long = vec![0xa5; before];
            long.extend_from_slice(&SECRET);
            long.extend_from_slice(&[0x5a; 7]);
            for hay in [
                long.clone(),
                HEXUPPER.encode(&long).into_bytes(),
                BASE32_NOPAD.encode(&long).into_bytes(),
                BASE32_NOPAD.encode(&long).to_lowercase().into_bytes(),
                BASE64_NOPAD.encode(&long).into_bytes(),
                BASE64URL_NOPAD.encode(&long).into_bytes(),
                data_encoding::BASE64.encode(&long).into_bytes(),
                format!("{long:?}").into_bytes(),
                format!("{long:02x?}").into_bytes(),
            ] {
                assert!(!needles.search("hay", &hay).is_empty(), "{before}: {}", String::from_utf8_lossy(&hay));
            }
        }
        assert!(!needles.search("hay", format!("key={} ", base58(&SECRET)).as_bytes()).is_empty());
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let noise: Vec<u8> =
            (0..20_000_u32).map(|number| u8::try_from(number * 7919 % 251).expect("it fits")).collect();
        assert_eq!(needles().search("noise", &noise), []);
        assert_eq!(needles().search("empty", &[]), []);
        assert_eq!(needles().search("one", &[0]), []);
    }

    #[test]
    fn three_words_of_a_code_are_found_with_any_separator() {
        let mut needles = Needles::default();
        needles.add_words("code", "zoo abandon legal winner thank year wave sausage worth useful yellow able");
        for hay in
            ["x abandon legal winner x", "LEGALWINNERTHANK", "wave,sausage,worth", "\"zoo\", \"abandon\", \"legal\""]
        {
            assert!(!needles.search("hay", hay.as_bytes()).is_empty(), "{hay}");
        }
        assert_eq!(needles.search("hay", b"legal winner zoo thank year"), []);
    }
}
