//! From a picture file to the text of a code.

#[path = "../../../../crates/cli/src/qr/pixels.rs"]
mod pixels;
#[path = "../../../../crates/cli/src/qr/read.rs"]
mod read;

use crate::input::Input;

/// The largest picture that is decoded here, and the largest side of one that is searched: a QR of a code fits in, and a
/// case takes milliseconds.
const MAX_PIXELS: usize = 1024 * 1024;
const MAX_SIDE: usize = 256;

/// Picture files: PNG with mended checksums, since nothing behind a wrong one is reached, and JPEG.
pub(crate) fn picture(bytes: &[u8]) {
    let file = if bytes.starts_with(b"\x89PNG") { with_right_sums(bytes) } else { bytes.to_vec() };
    if sizes(&file).iter().any(|(width, height)| width * height > MAX_PIXELS) {
        return;
    }
    let Ok(grey) = pixels::decode(&file) else { return };
    assert_eq!(grey.pixels.len(), grey.width * grey.height);
    assert!((1..=pixels::SIDE_MAX).contains(&grey.width) && (1..=pixels::SIDE_MAX).contains(&grey.height));
    if grey.width.max(grey.height) > MAX_SIDE {
        return;
    }
    if let Ok(code) = read::search(&grey) {
        assert!(code.is_char_boundary(9) && code[..9].eq_ignore_ascii_case("HANDFAST:"));
        crate::text::qr_text(code.as_bytes());
    }
}

/// The width and height that the header of a PNG says, or what looks like a frame header of a JPEG: decoders skip what
/// stands before one.
fn sizes(file: &[u8]) -> Vec<(usize, usize)> {
    let be = |at: usize, len: usize| -> Option<usize> {
        Some(file.get(at..at + len)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if file.starts_with(b"\x89PNG") {
        return be(16, 4).zip(be(20, 4)).into_iter().collect();
    }
    let frames =
        file.windows(2).enumerate().filter(|(_, marker)| marker[0] == 0xff && (0xc0..=0xc2).contains(&marker[1]));
    frames.filter_map(|(at, _)| be(at + 7, 2).zip(be(at + 5, 2))).collect()
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
