//! From the bytes of a PNG or JPEG file to grey pixels. The file comes from anywhere: its sizes are looked at before
//! anything of that size is allocated.

use std::io::Cursor;

use png::{ColorType, InterlaceInfo, Transformations};
use zeroize::Zeroizing;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Most pixels of a side: photographs have about half of it.
pub(super) const SIDE_MAX: usize = 16_384;

/// Most pixels of a picture: the 50 million of a telephone's camera. A progressive JPEG takes six bytes for each.
pub(super) const PIXELS_MAX: usize = 48 * 1024 * 1024;

/// Most bytes that the PNG decoder allocates beside the rows of the picture. What it is used for (palettes, profiles)
/// takes a few kilobytes.
const PNG_EXTRA_MAX: usize = 1024 * 1024;

/// Most scans of a progressive JPEG: each of them goes over all pixels. Encoders write about ten.
const JPEG_SCANS_MAX: usize = 32;

/// Grey pixels, row by row; 0 is black.
pub(super) struct Grey {
    /// Pixels of a row.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// As many as both say.
    pub(super) pixels: Zeroizing<Vec<u8>>,
}

/// Why a file has no pixels for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PixelError {
    /// Neither PNG nor JPEG; its kind, if it is a known one.
    Kind(Option<&'static str>),
    /// Larger than any picture that is read.
    Size(usize, usize),
    /// It ends early, or does not follow its format.
    Damaged(&'static str),
}

/// The pixels of a picture file.
pub(super) fn decode(file: &[u8]) -> Result<Grey, PixelError> {
    if file.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png(file)
    } else if file.starts_with(&[0xff, 0xd8, 0xff]) {
        decode_jpeg(file)
    } else {
        Err(PixelError::Kind(kind(file)))
    }
}

impl Grey {
    /// A white picture.
    fn new(width: usize, height: usize) -> Result<Grey, PixelError> {
        if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX {
            return Err(PixelError::Size(width, height));
        }
        Ok(Grey { width, height, pixels: Zeroizing::new(vec![0xff; width * height]) })
    }

    /// The picture with the mean of `factor` by `factor` pixels for each; what does not fill such a square is left out.
    pub(super) fn reduced(&self, factor: usize) -> Grey {
        let (width, height) = ((self.width / factor).max(1), (self.height / factor).max(1));
        let mean = |x: usize, y: usize| {
            let rows = (y * factor..(y + 1) * factor).take_while(|y| *y < self.height);
            let sum: usize = rows
                .flat_map(|y| self.pixels[y * self.width..].iter().take(self.width).skip(x * factor).take(factor))
                .map(|grey| usize::from(*grey))
                .sum();
            u8::try_from(sum / (factor * factor)).unwrap_or(u8::MAX)
        };
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| mean(x, y)).collect();
        Grey { width, height, pixels: Zeroizing::new(pixels) }
    }
}

fn decode_png(file: &[u8]) -> Result<Grey, PixelError> {
    let damaged = |_| PixelError::Damaged("PNG");
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes: PNG_EXTRA_MAX });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(damaged)?;
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut grey = Grey::new(size(header.width), size(header.height))?;
    let row_max = grey.width.saturating_mul(8);
    decoder.set_limits(png::Limits { bytes: PNG_EXTRA_MAX + row_max });
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (colour, _) = reader.output_color_type();
    let mut line = Zeroizing::new(Vec::with_capacity(grey.width));
    let mut lines = 0;
    while let Some(row) = reader.next_interlaced_row().map_err(damaged)? {
        line.clear();
        line.extend(grey_of(row.data(), colour));
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                let to = grey.pixels.chunks_exact_mut(grey.width).nth(lines).ok_or(PixelError::Damaged("PNG"))?;
                to.copy_from_slice(&line);
                lines += 1;
            }
            InterlaceInfo::Adam7(at) => {
                png::expand_interlaced_row(&mut grey.pixels, grey.width, &line, at, 8);
            }
        }
    }
    Ok(grey)
}

/// The grey of each pixel; what is transparent shows white behind it, as on a page.
fn grey_of(row: &[u8], colour: ColorType) -> Vec<u8> {
    let on_white = |grey: u8, alpha: u8| {
        let (grey, alpha) = (u32::from(grey), u32::from(alpha));
        u8::try_from((grey * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX)
    };
    match colour {
        ColorType::GrayscaleAlpha => row.chunks_exact(2).map(|pixel| on_white(pixel[0], pixel[1])).collect(),
        ColorType::Rgb => row.chunks_exact(3).map(luma).collect(),
        ColorType::Rgba => row.chunks_exact(4).map(|pixel| on_white(luma(pixel), pixel[3])).collect(),
        // The decoder was asked to resolve palettes.
        ColorType::Grayscale | ColorType::Indexed => row.to_vec(),
    }
}

/// The brightness of red, green and blue (ITU-R BT.601).
fn luma(pixel: &[u8]) -> u8 {
    let part = |at: usize, weight: u32| u32::from(pixel[at]) * weight;
    u8::try_from((part(0, 299) + part(1, 587) + part(2, 114)) / 1000).unwrap_or(u8::MAX)
}

fn decode_jpeg(file: &[u8]) -> Result<Grey, PixelError> {
    let damaged = || PixelError::Damaged("JPEG");
    // The format goes no further than these sides; which of them are read is decided below, with a better reason.
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(JPEG_SCANS_MAX)
        .jpeg_set_out_colorspace(ColorSpace::Luma);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(file), options);
    decoder.decode_headers().map_err(|_| damaged())?;
    let (width, height) = decoder.dimensions().ok_or_else(damaged)?;
    let mut grey = Grey::new(width, height)?;
    if decoder.output_buffer_size() != Some(grey.pixels.len()) {
        return Err(damaged());
    }
    decoder.decode_into(&mut grey.pixels).map_err(|_| damaged())?;
    Ok(grey)
}

/// The name of a format that people may well try.
fn kind(file: &[u8]) -> Option<&'static str> {
    let has = |at: usize, what: &[u8]| file.get(at..).is_some_and(|rest| rest.starts_with(what));
    if has(0, b"GIF8") {
        Some("a GIF")
    } else if has(0, b"RIFF") && has(8, b"WEBP") {
        Some("a WebP picture")
    } else if has(4, b"ftyp") {
        Some("a HEIC or AVIF picture, or a film")
    } else if has(0, b"BM") {
        Some("a BMP picture")
    } else if has(0, b"II*\0") || has(0, b"MM\0*") {
        Some("a TIFF picture")
    } else if has(0, b"%PDF") {
        Some("a PDF document")
    } else if has(0, b"<svg") || has(0, b"<?xml") {
        Some("an SVG drawing")
    } else {
        None
    }
}
