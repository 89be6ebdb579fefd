//! A terminal as far as this program uses one: takes what was printed and gives the picture that a person sees, and a
//! camera. (The unit tests of the drawing use this file as well.)

/// Pixels of a character.
const CELL: (usize, usize) = (8, 16);

/// Brightness of text and background where no colour is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    text: u8,
    background: u8,
}

/// Light text on dark, and the reverse.
pub(crate) const THEMES: [Theme; 2] = [Theme { text: 0xd0, background: 0x1c }, Theme { text: 0x50, background: 0xfd }];

/// What is on the screen.
pub(crate) struct Terminal {
    columns: usize,
    rows: Vec<Vec<Cell>>,
    at: (usize, usize),
    /// Brightness of text and background, where one is set.
    colours: (Option<u8>, Option<u8>),
}

#[derive(Clone, Copy)]
struct Cell {
    shown: char,
    colours: (Option<u8>, Option<u8>),
}

const EMPTY: Cell = Cell { shown: ' ', colours: (None, None) };

impl Terminal {
    /// An empty screen.
    pub(crate) fn new(columns: usize, rows: usize) -> Terminal {
        Terminal { columns, rows: vec![vec![EMPTY; columns]; rows], at: (0, 0), colours: (None, None) }
    }

    /// Prints what a program has written.
    pub(crate) fn print(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.at.0 = 0,
                '\n' => self.line_feed(),
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a whole sequence");
                    self.sequence(&rest[..=end]);
                    rest = &rest[end + 1..];
                }
                _ => self.show(c),
            }
        }
    }

    /// The text of each row.
    pub(crate) fn text(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.iter().map(|cell| cell.shown).collect()).collect()
    }

    /// The picture as an eight-bit grey PNG.
    pub(crate) fn png(&self, theme: Theme) -> Vec<u8> {
        let (width, height) = (self.columns * CELL.0, self.rows.len() * CELL.1);
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = &self.rows[y / CELL.1];
            pixels.extend((0..width).map(|x| row[x / CELL.0].pixel(x % CELL.0, y % CELL.1, theme)));
        }
        let size = |pixels: usize| u32::try_from(pixels).expect("a small picture");
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, size(width), size(height));
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).expect("a picture");
        png
    }

    fn show(&mut self, c: char) {
        if self.at.0 == self.columns {
            self.at.0 = 0;
            self.line_feed();
        }
        self.rows[self.at.1][self.at.0] = Cell { shown: c, colours: self.colours };
        self.at.0 += 1;
    }

    /// A new line starts on its left: the terminal's driver sees to that, or the program's text is taken as it is.
    fn line_feed(&mut self) {
        self.at = (0, self.at.1 + 1);
        if self.at.1 == self.rows.len() {
            self.at.1 -= 1;
            self.rows.remove(0);
            self.rows.push(vec![EMPTY; self.columns]);
        }
    }

    fn sequence(&mut self, sequence: &str) {
        match sequence {
            "[K" => self.rows[self.at.1][self.at.0.min(self.columns - 1)..].fill(EMPTY),
            "[0m" => self.colours = (None, None),
            // Bold and faint.
            "[1m" | "[2m" => {}
            "[38;5;16;48;5;231m" => self.colours = (Some(0x00), Some(0xff)),
            _ => panic!("a sequence that this program does not use: {sequence:?}"),
        }
    }
}

impl Cell {
    fn pixel(self, x: usize, y: usize, theme: Theme) -> u8 {
        let upper = y < CELL.1 / 2;
        let is_ink = match self.shown {
            ' ' => false,
            '█' => true,
            '▀' => upper,
            '▄' => !upper,
            // Something that looks like a letter from afar: the bits of a hash of it.
            c => {
                (1..7).contains(&x) && (3..13).contains(&y) && {
                    let bits = u32::from(c).wrapping_mul(0x9e37_79b1);
                    (bits >> (x / 2 + y / 2 * 4)) & 1 == 1
                }
            }
        };
        if is_ink { self.colours.0.unwrap_or(theme.text) } else { self.colours.1.unwrap_or(theme.background) }
    }
}
