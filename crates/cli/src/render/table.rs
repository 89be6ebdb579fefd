//! Columns of text, as wide as their widest cell.

/// Spaces between columns.
const GAP: usize = 2;

/// The rows under their headings; no line ends with a space.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join(&" ".repeat(GAP)).trim_end().to_owned() + "\n"
    };
    let mut text = line(headings);
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["bob".to_owned(), "x".to_owned()], ["a longer one".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "PATH"], &rows), "NAME          PATH\nbob           x\na longer one\n");
    }
}
