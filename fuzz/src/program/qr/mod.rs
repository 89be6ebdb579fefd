//! From a picture file to the text of a code.

#[path = "../../../../crates/cli/src/qr/pixels.rs"]
mod pixels;
#[path = "../../../../crates/cli/src/qr/read.rs"]
mod read;

use crate::input::Input;

/// The largest picture that is searched here: a QR of a code fits in, and a case takes milliseconds.
const MAX_SIDE: usize = 256;

/// Picture files: PNG with mended checksums, since nothing behind a wrong one is reached, and JPEG.
pub(crate) fn picture(bytes: &[u8]) {
    let file = if bytes.starts_with(b"\x89PNG") { with_right_sums(bytes) } else { bytes.to_vec() };
    let Some((width, height)) = sides(&file) else {
        // No size, no pixels: the decoder must see that too.
        assert!(pixels::decode(&file).is_err());
        return;
    };
    if width > MAX_SIDE && height > MAX_SIDE || width.max(height) > 16 * MAX_SIDE {
        return;
    }
    let Ok(grey) = pixels::decode(&file) else { return };
    assert_eq!((grey.width, grey.height), (width, height));
    assert_eq!(grey.pixels.len(), width * height);
    if width > MAX_SIDE || height > MAX_SIDE {
        return;
    }
    if let Ok(code) = read::search(&grey) {
        assert!(code.is_char_boundary(9) && code[..9].eq_ignore_ascii_case("HANDFAST:"));
        crate::text::qr_text(code.as_bytes());
    }
}

/// Width and height, as the first header of either format says them.
fn sides(file: &[u8]) -> Option<(usize, usize)> {
    let be = |at: usize, len: usize| -> Option<usize> {
        Some(file.get(at..at + len)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if file.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some((be(16, 4)?, be(20, 4)?));
    }
    let mut at = 2;
    while file.get(at) == Some(&0xff) {
        let marker = *file.get(at + 1)?;
        if matches!(marker, 0xc0..=0xc2) {
            return Some((be(at + 7, 2)?, be(at + 5, 2)?));
        }
        at += 2 + be(at + 2, 2)?;
    }
    None
}

/// The same chunks, each with the checksum that it should have.
fn with_right_sums(png: &[u8]) -> Vec<u8> {
    let mut input = Input::new(png);
    let mut out = input.take(8).to_vec();
    while !input.is_empty() {
        let len = input.array::<4>();
        let kind = input.array::<4>();
        let size = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        let data = input.take(size);
        input.take(4);
        out.extend_from_slice(&len);
        out.extend_from_slice(&kind);
        out.extend_from_slice(data);
        out.extend_from_slice(&crc32fast::hash(&[&kind[..], data].concat()).to_be_bytes());
    }
    out
}
