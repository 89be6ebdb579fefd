//! A QR as the bytes of a picture file: PNG for everything, SVG for print.

use std::fmt::Write as _;

use qrcode::EcLevel;
use zeroize::Zeroizing;

use super::{QUIET, Symbol};

/// Pixels of a module's side. The largest symbol of a code becomes 450 pixels wide: enough for a camera on any screen.
const MODULE: usize = 10;

/// Kinds of pictures that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `.png`
    Png,
    /// `.svg`
    Svg,
}

/// The picture of `text`, black on white with the margin of the standard; none if the text is too long for a QR.
/// Correction M: a picture may be printed, folded or photographed.
pub(super) fn bytes(text: &str, format: Format) -> Option<Zeroizing<Vec<u8>>> {
    let symbol = Symbol::new(text, EcLevel::M)?;
    match format {
        Format::Png => png(&symbol),
        Format::Svg => Some(svg(&symbol)),
    }
}

/// One bit a pixel, grey: 1 is white.
fn png(symbol: &Symbol) -> Option<Zeroizing<Vec<u8>>> {
    let side = symbol.side(QUIET) * MODULE;
    let stride = side.div_ceil(8);
    let mut rows = Zeroizing::new(vec![0xff_u8; stride * side]);
    for (y, row) in rows.chunks_exact_mut(stride).enumerate() {
        for x in (0..side).filter(|x| symbol.is_dark(x / MODULE, y / MODULE, QUIET)) {
            row[x / 8] &= !(0x80 >> (x % 8));
        }
    }
    let pixels = u32::try_from(side).ok()?;
    let mut out = Zeroizing::new(Vec::with_capacity(rows.len() + 1024));
    let mut encoder = png::Encoder::new(&mut *out, pixels, pixels);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    // Writing to memory fails only if the sizes do not match.
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&rows)).ok()?;
    Some(out)
}

/// One path over all dark modules, each run of them in a row a rectangle.
fn svg(symbol: &Symbol) -> Zeroizing<Vec<u8>> {
    let side = symbol.side(QUIET);
    let pixels = side * MODULE;
    let mut out = Zeroizing::new(String::with_capacity(32 * 1024));
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\">\n<title>handfast code</title>\n<rect width=\"{side}\" height=\"{side}\" \
         fill=\"#fff\"/>\n<path fill=\"#000\" d=\""
    );
    for row in 0..side {
        let mut column = 0;
        while column < side {
            let run = (column..side).take_while(|column| symbol.is_dark(*column, row, QUIET)).count();
            if run > 0 {
                let _ = write!(out, "M{column} {row}h{run}v1h-{run}z");
            }
            column += run.max(1);
        }
    }
    out.push_str("\"/>\n</svg>\n");
    Zeroizing::new(std::mem::take(&mut *out).into_bytes())
}
