//! Codes as pictures and back, by two readers: rqrr, which this program uses, and zbar, which shares nothing with it.

#[path = "../../tests/cli/terminal.rs"]
mod terminal;
#[path = "../../tests/cli/zbar.rs"]
mod zbar;

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use qrcode::EcLevel;
use sha2::{Digest as _, Sha256};

use self::terminal::{THEMES, Terminal};
use super::image::{self, Format};
use super::pixels::{self, Grey, PixelError};
use super::read::{Found, search, within};
use super::{QUIET, Symbol};
use crate::render::code::{Look, screen};

/// How many random codes are tried; the full check takes 1000.
const COUNT: &str = "HANDFAST_QR_COUNT";

/// As many as CI tries.
const COUNT_OF_CI: u32 = 50;

/// The seed of the random codes.
const SEED: &str = "HANDFAST_SEED";

/// Terminals on which a code is drawn, one after another: the usual one, a large one, a narrow and high one.
const TERMINALS: [(usize, usize); 3] = [(80, 24), (132, 50), (50, 40)];

const WORDS: &str = "legal winner thank year wave sausage worth useful abstract absolute announce yellow";

/// A stream of bytes that a seed and a number give.
struct Dice {
    state: [u8; 32],
    used: usize,
}

impl Dice {
    fn new(seed: u64, number: u32) -> Dice {
        let state = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(number.to_be_bytes()).finalize();
        Dice { state: state.into(), used: 0 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.state.len() {
            *self = Dice { state: Sha256::digest(self.state).into(), used: 0 };
        }
        self.used += 1;
        self.state[self.used - 1]
    }

    fn below(&mut self, bound: usize) -> usize {
        (usize::from(self.byte()) * 256 + usize::from(self.byte())) % bound
    }
}

/// A QR text, made here by the table of section 4 and not by the library: each number another length and other flags.
fn random_text(dice: &mut Dice, number: u32) -> String {
    let flags = u8::try_from(number / 5 % 4).expect("two bits");
    let mut bytes = vec![(1 << 4) | flags];
    bytes.extend((0..48).map(|_| dice.byte()));
    let hints: Vec<u8> = match number % 5 {
        4 => [0x2a, 0x0a].into_iter().chain((0..14).map(|_| dice.byte())).collect(),
        count => (0..count).flat_map(|_| [192, 168, dice.byte(), dice.byte()]).collect(),
    };
    let port = if hints.is_empty() { [0, 0] } else { [dice.byte() | 0x04, dice.byte()] };
    bytes.extend(port);
    bytes.extend(hints);
    let sum = Sha256::new().chain_update(b"handfast/1 qr\0").chain_update(&bytes).finalize();
    bytes.extend(&sum[..2]);
    format!("HANDFAST:{}", BASE32_NOPAD.encode(&bytes))
}

fn from_env<T: std::str::FromStr>(name: &str, usual: T) -> T {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")),
        Err(_) => usual,
    }
}

fn png(text: &str) -> Vec<u8> {
    image::bytes(text, Format::Png).expect("a short text").to_vec()
}

/// What the program finds in a file of these bytes.
fn find(file: &[u8]) -> Result<String, Found> {
    let picture = pixels::decode(file).expect("a picture");
    search(&picture).map(|text| text.to_string())
}

/// The screen of the program, as a picture on a dark and on a light background.
fn screens(text: &str, (columns, rows): (usize, usize)) -> [Vec<u8>; 2] {
    let mut terminal = Terminal::new(columns, rows);
    terminal.print(&screen(WORDS, text, Look { columns, rows, colour: true }));
    for word in WORDS.split(' ') {
        assert!(terminal.text().iter().any(|line| line.contains(word)), "{word} is on {columns} x {rows}");
    }
    THEMES.map(|theme| terminal.png(theme))
}

/// A8: all five lengths, hints of IPv4 and IPv6, every combination of flags, from the file and from the screen.
#[test]
fn a8_random_codes_are_read_back_from_png_and_terminal_by_rqrr_and_by_zbar() {
    let (count, seed) = (from_env(COUNT, COUNT_OF_CI), from_env(SEED, 1_u64));
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..count {
        let text = random_text(&mut Dice::new(seed, number), number);
        let about = format!("number {number} of {SEED}={seed}");
        assert_eq!(handfast::code::check(&text), Ok(()), "{about}");
        let [dark, light] = screens(&text, TERMINALS[usize::try_from(number / 20).expect("small") % TERMINALS.len()]);
        let mut files: Vec<PathBuf> = Vec::new();
        for (name, picture) in [("file", png(&text)), ("dark", dark), ("light", light)] {
            assert_eq!(find(&picture).as_ref(), Ok(&text), "rqrr, {name}, {about}");
            files.push(folder.path().join(format!("{name}.png")));
            std::fs::write(&files[files.len() - 1], picture).expect("written");
        }
        if let Some(read) = zbar::read(&files) {
            assert!(read.iter().all(|read| *read == text) && read.len() == files.len(), "zbar, {about}: {read:?}");
        }
    }
}

/// A8: the drawing for print has the same modules.
#[test]
fn a8_an_svg_draws_the_modules_of_the_symbol() {
    for number in 0..5 {
        let text = random_text(&mut Dice::new(1, number), number);
        let symbol = Symbol::new(&text, EcLevel::M).expect("a short text");
        let side = symbol.side(QUIET);
        let svg = image::bytes(&text, Format::Svg).expect("a short text");
        let svg = std::str::from_utf8(&svg).expect("text");
        assert!(svg.contains(&format!("viewBox=\"0 0 {side} {side}\"")));
        assert!(svg.contains(&format!("<rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/>")));
        let path = svg.split_once(" d=\"M").and_then(|(_, rest)| rest.split_once('"')).expect("a path").0;
        let mut dark = vec![false; side * side];
        for run in path.split('M') {
            let numbers: Vec<usize> =
                run.split([' ', 'h', 'v', '-', 'z']).filter_map(|number| number.parse().ok()).collect();
            let [column, row, length, 1, back] = numbers[..] else { panic!("{run}") };
            assert_eq!(length, back, "{run}");
            dark[row * side + column..][..length].fill(true);
        }
        let drawn: Vec<bool> = (0..side * side).map(|at| symbol.is_dark(at % side, at / side, QUIET)).collect();
        assert_eq!(dark, drawn);
    }
}

/// One eight-bit picture beside another, white where there is nothing.
fn side_by_side(pictures: &[Grey]) -> Grey {
    let gap = 40;
    let width = pictures.iter().map(|picture| picture.width + gap).sum();
    let height = pictures.iter().map(|picture| picture.height).max().unwrap_or(1);
    let mut pixels = vec![0xff; width * height];
    let mut left = 0;
    for picture in pictures {
        for (y, row) in picture.pixels.chunks_exact(picture.width).enumerate() {
            pixels[y * width + left..][..picture.width].copy_from_slice(row);
        }
        left += picture.width + gap;
    }
    Grey { width, height, pixels: pixels.into() }
}

fn picture(text: &str) -> Grey {
    pixels::decode(&png(text)).expect("a picture")
}

fn codes() -> [String; 2] {
    [1, 2].map(|number| random_text(&mut Dice::new(7, number), number))
}

#[test]
fn of_several_qrs_the_one_of_handfast_is_taken() {
    let [code, other] = codes();
    let found = |pictures: &[Grey]| search(&side_by_side(pictures)).map(|text| text.to_string());
    let web = || picture("https://example.org/secret");
    assert_eq!(found(&[web(), picture(&code), picture("WIFI:S:home;P:secret;;")]).as_ref(), Ok(&code));
    assert_eq!(found(&[picture(&code), picture(&code)]).as_ref(), Ok(&code), "the same one twice");
    assert_eq!(found(&[picture(&code), picture(&code.to_lowercase()), picture(&other)]), Err(Found::Codes(2)));
    assert_eq!(found(&[picture(&code.to_lowercase()), web()]), Ok(code.to_lowercase()));
}

#[test]
fn what_is_found_instead_of_a_code_is_named_and_its_secrets_are_not() {
    let found = |text: &str| search(&picture(text)).expect_err("no code").to_string();
    let secret = "S3CR3T";
    for (text, named) in [
        (format!("https://example.org/{secret}"), "not one of handfast: it begins with \"https:\""),
        (format!("WIFI:S:home;P:{secret};;"), "it begins with \"WIFI:\""),
        (format!("otpauth://totp/x?secret={secret}"), "it begins with \"otpauth:\""),
        (format!("{secret} and nothing else"), "the QR in this picture is not one of handfast"),
        (format!("{secret} as a very long scheme:x"), "the QR in this picture is not one of handfast"),
        (format!("\u{1b}[2J{secret}:x"), "the QR in this picture is not one of handfast"),
    ] {
        let said = found(&text);
        assert!(said.contains(named) && !said.contains(secret) && !said.contains('\u{1b}'), "{said}");
    }
    let two = side_by_side(&[picture("https://a.example"), picture("https://b.example")]);
    assert_eq!(search(&two), Err(Found::Others(2, Some("https:".to_owned()))));
    let white = Grey { width: 300, height: 200, pixels: vec![0xff; 300 * 200].into() };
    assert_eq!(search(&white), Err(Found::Nothing));
    let mut torn = picture(&codes()[0]);
    let (width, third) = (torn.width, torn.height / 3);
    for row in torn.pixels.chunks_exact_mut(width).skip(third).take(third) {
        row[width / 3..width * 2 / 3].fill(0xff);
    }
    assert_eq!(search(&torn), Err(Found::Unreadable));
}

#[test]
fn a_code_in_light_on_dark_turned_small_or_in_a_large_picture_is_found() {
    let [code, _] = codes();
    let plain = picture(&code);
    let of = |width, height, pixel: &dyn Fn(usize, usize) -> u8| {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        search(&Grey { width, height, pixels: Vec::into(pixels) }).map(|text| text.to_string())
    };
    let (side, at) = (plain.width, |x: usize, y: usize| plain.pixels[y * plain.width + x]);
    assert_eq!(of(side, side, &|x, y| !at(x, y)).as_ref(), Ok(&code), "light on dark");
    assert_eq!(of(side, side, &|x, y| at(y, side - 1 - x)).as_ref(), Ok(&code), "turned");
    assert_eq!(of(side, side, &|x, y| at(y, x)).as_ref(), Ok(&code), "in a mirror");
    assert_eq!(of(side / 5, side / 5, &|x, y| at(x * 5, y * 5)).as_ref(), Ok(&code), "two pixels a module");
    assert_eq!(of(side * 7, side * 7, &|x, y| at(x / 7, y / 7)).as_ref(), Ok(&code), "70 pixels a module");
    let far = |x: usize, y: usize| if x / 2 < side && y / 2 < side { at(x / 2, y / 2) / 2 + 60 } else { 150 };
    assert_eq!(of(4000, 3000, &far).as_ref(), Ok(&code), "in the corner of a photograph of 12 million pixels");
    let small = |x: usize, y: usize| match (x.checked_sub(1400), y.checked_sub(900)) {
        (Some(x), Some(y)) if x * 10 / 3 < side && y * 10 / 3 < side => at(x * 10 / 3, y * 10 / 3),
        (_, _) => 255,
    };
    assert_eq!(of(2500, 1800, &small).as_ref(), Ok(&code), "three pixels a module, somewhere on a large screen");
}

/// Files made by other programs, of the same code: `tests/pictures/README.md`.
#[test]
fn pictures_of_other_programs_are_read_in_all_their_forms() {
    let code = include_str!("../../tests/pictures/code.txt").trim();
    for (name, file) in [
        ("photo.jpg", include_bytes!("../../tests/pictures/photo.jpg").as_slice()),
        ("progressive.jpg", include_bytes!("../../tests/pictures/progressive.jpg")),
        ("grey.jpg", include_bytes!("../../tests/pictures/grey.jpg")),
        ("interlaced.png", include_bytes!("../../tests/pictures/interlaced.png")),
        ("palette.png", include_bytes!("../../tests/pictures/palette.png")),
        ("transparent.png", include_bytes!("../../tests/pictures/transparent.png")),
        ("deep.png", include_bytes!("../../tests/pictures/deep.png")),
    ] {
        assert_eq!(find(file).as_deref(), Ok(code), "{name}");
    }
}

/// The first bytes of a PNG that claims a size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width, height);
    encoder.set_color(png::ColorType::Rgba);
    drop(encoder.write_header().expect("a header"));
    png
}

#[test]
fn a_picture_that_claims_to_be_huge_is_refused_before_memory_is_taken_for_it() {
    for (width, height) in [(100_000, 100_000), (u32::MAX >> 1, 1), (1, 16_385), (16_384, 16_384)] {
        let size = |number| usize::try_from(number).expect("a 64-bit machine");
        let refused = pixels::decode(&png_header(width, height)).err();
        assert_eq!(refused, Some(PixelError::Size(size(width), size(height))));
    }
    let mut jpeg = include_bytes!("../../tests/pictures/photo.jpg").to_vec();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert_eq!(pixels::decode(&jpeg).err(), Some(PixelError::Size(65_535, 65_535)));
}

#[test]
fn the_search_ends_when_its_time_is_over() {
    let code = || png(&codes()[0]).into();
    assert!(within(Duration::from_secs(60), code()).is_ok());
    // It takes seconds to see that there is nothing on it.
    let mut page = Vec::new();
    let mut encoder = png::Encoder::new(&mut page, 3000, 3000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&[0xff; 375 * 3000]));
    written.expect("a picture");
    let said = within(Duration::ZERO, page.into()).err();
    assert!(said.is_some_and(|said| said.contains("in time")));
}

#[test]
fn damaged_files_of_every_kind_are_refused_and_harm_nothing() {
    let pictures = [
        png(&codes()[0]),
        include_bytes!("../../tests/pictures/interlaced.png").to_vec(),
        include_bytes!("../../tests/pictures/photo.jpg").to_vec(),
        include_bytes!("../../tests/pictures/progressive.jpg").to_vec(),
    ];
    for whole in &pictures[..2] {
        for end in (8..whole.len() - 30).step_by(97) {
            assert!(pixels::decode(&whole[..end]).is_err(), "cut off at {end}");
        }
    }
    for number in 0..60 {
        let mut dice = Dice::new(3, number);
        let mut file = pictures[dice.below(pictures.len())].clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(file.len());
            file[at] = dice.byte();
        }
        file.truncate(file.len() - dice.below(3) * dice.below(file.len()) / 3);
        // It may still be read; it must not panic, and what is read is the code.
        if let Ok(picture) = pixels::decode(&file)
            && let Ok(text) = search(&picture)
        {
            assert!(text.starts_with("HANDFAST:"));
        }
    }
}

#[test]
fn formats_that_are_not_read_are_named() {
    for (file, kind) in [
        (b"GIF89a....".as_slice(), Some("a GIF")),
        (b"RIFF\0\0\0\0WEBPVP8 ", Some("a WebP picture")),
        (b"\0\0\0\x18ftypheic", Some("a HEIC or AVIF picture, or a film")),
        (b"<svg xmlns", Some("an SVG drawing")),
        (b"%PDF-1.7", Some("a PDF document")),
        (b"legal winner thank", None),
        (b"", None),
    ] {
        assert_eq!(pixels::decode(file).err(), Some(PixelError::Kind(kind)));
    }
}
