//! Reads Rust source just well enough for the tidiness rules: code, strings and comments told apart, and `use` trees
//! written out. It is no parser; rules built on it must hold for any text.

/// One source file, seen three ways. All views have the same lines and columns as the file: what a view leaves out is
/// blank.
pub(crate) struct Source {
    /// Code alone: no comments, no contents of strings or character literals.
    pub(crate) code: String,
    /// Code and strings: no comments.
    pub(crate) code_and_strings: String,
    /// Comments alone, documentation included.
    pub(crate) comments: String,
}

/// What one character of a file belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Text,
    Comment,
}

impl Source {
    /// Takes a file apart.
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let kinds = classify(&chars);
        let view = |keep: &[Kind]| -> String {
            chars.iter().zip(&kinds).map(|(c, kind)| if *c == '\n' || keep.contains(kind) { *c } else { ' ' }).collect()
        };
        Self {
            code: view(&[Kind::Code]),
            code_and_strings: view(&[Kind::Code, Kind::Text]),
            comments: view(&[Kind::Comment]),
        }
    }

    /// Every `use` of the file, one entry for each imported name.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let mut found = Vec::new();
        for at in words(&self.code, "use") {
            let rest = &self.code[at + "use".len()..];
            let Some(end) = rest.find(';') else { continue };
            let before = self.code[..at].trim_end();
            let public = before.ends_with("pub") && !before.ends_with("_pub");
            let line = line_of(&self.code, at);
            expand(&rest[..end], &mut Vec::new(), &mut |path, name| {
                found.push(Import { path: path.to_vec(), name: name.to_owned(), public, line });
            });
        }
        found
    }
}

/// One imported name.
pub(crate) struct Import {
    /// The whole path, `["std", "net", "TcpStream"]`; a glob ends in `*`.
    pub(crate) path: Vec<String>,
    /// The name it has here.
    pub(crate) name: String,
    /// `pub use` (and not `pub(crate) use`).
    pub(crate) public: bool,
    /// Line of the `use`, from 1.
    pub(crate) line: usize,
}

impl Import {
    /// Does the path begin with these parts (`std::net`)?
    pub(crate) fn is_under(&self, prefix: &str) -> bool {
        let parts: Vec<&str> = prefix.split("::").collect();
        self.path.len() >= parts.len() && self.path.iter().zip(&parts).all(|(have, want)| have == want)
    }
}

/// The number of the line, from 1, that holds the byte at `at`.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Where `word` (a name, or a path as the formatter writes it) stands by itself, not as a part of a longer name.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back().filter(|_| word.starts_with(is_name));
        let after = text[at + word.len()..].chars().next().filter(|_| word.ends_with(is_name));
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// Can this character be in a name?
pub(crate) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn classify(chars: &[char]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => (Kind::Comment, end_of_line(chars, at)),
            '/' if chars.get(at + 1) == Some(&'*') => (Kind::Comment, end_of_block(chars, at)),
            '"' => (Kind::Text, end_of_string(chars, at + 1)),
            'r' if starts_raw(chars, at).is_some() => {
                let hashes = starts_raw(chars, at).unwrap_or(0);
                (Kind::Text, end_of_raw(chars, at + 1 + hashes + 1, hashes))
            }
            '\'' if is_char_literal(chars, at) => (Kind::Text, end_of_char(chars, at + 1)),
            _ => (Kind::Code, at + 1),
        };
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| from + n)
}

fn end_of_block(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// How many hashes open a raw string here, if one opens: `r"`, `br#"`, but not `r#name`, nor the end of another name.
fn starts_raw(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|i| chars[i]);
    let prefixed = matches!(before, Some('b' | 'c')) && !at.checked_sub(2).is_some_and(|i| is_name(chars[i]));
    if before.is_some_and(is_name) && !prefixed {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn end_of_raw(chars: &[char], from: usize, hashes: usize) -> usize {
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (from..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes)
}

/// A quote opens a character (`'x'`, `'\n'`) or a lifetime (`'x`).
fn is_char_literal(chars: &[char], at: usize) -> bool {
    chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')
}

fn end_of_char(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '\n' {
        match chars[at] {
            '\\' => at += 2,
            '\'' => return at + 1,
            _ => at += 1,
        }
    }
    at.min(chars.len())
}

/// Writes out one `use` tree; `found` gets each whole path and the name it is imported under.
fn expand(tree: &str, prefix: &mut Vec<String>, found: &mut dyn FnMut(&[String], &str)) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
        let depth = prefix.len();
        prefix.extend(path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
        // `use a::b::{self}` imports `b`.
        if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
            prefix.pop();
        }
        if let Some(last) = prefix.last().cloned() {
            found(prefix, alias.unwrap_or(&last));
        }
        prefix.truncate(depth);
        return;
    };
    let depth = prefix.len();
    prefix.extend(tree[..open].split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
    let inner = tree[open + 1..].rsplit_once('}').map_or(&tree[open + 1..], |(inner, _)| inner);
    let mut start = 0;
    let mut nesting = 0_i32;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => nesting += 1,
            '}' => nesting -= 1,
            ',' if nesting == 0 => {
                expand_part(&inner[start..at], prefix, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand_part(&inner[start..], prefix, found);
    prefix.truncate(depth);
}

fn expand_part(part: &str, prefix: &mut Vec<String>, found: &mut dyn FnMut(&[String], &str)) {
    if !part.trim().is_empty() {
        let depth = prefix.len();
        expand(part, prefix, found);
        prefix.truncate(depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::new(text).imports().iter().map(|import| format!("{}={}", import.name, import.path.join("::"))).collect()
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        let source =
            Source::new("let a = \"unsafe // x\"; // unsafe\nlet b = r#\"un\"safe\"#; /* a /* b */ c */ let c = 'u';");
        assert!(!source.code.contains("unsafe"));
        assert!(!source.code.contains('b') || source.code.contains("let b"));
        assert!(source.code.contains("let c"));
        assert!(source.comments.contains("// unsafe"));
        assert!(!source.comments.contains("// x"));
        assert!(source.code_and_strings.contains("\"unsafe // x\""));
        assert!(!source.code_and_strings.contains("// unsafe\n"));
    }

    #[test]
    fn lifetimes_and_escapes_do_not_open_anything() {
        let source = Source::new("fn f<'a>(x: &'a str) -> char { '\\'' } fn g() { \"\\\"\"; h(b'\"'); } // end");
        assert!(source.code.contains("fn g()"));
        assert!(source.code.contains("h(b"));
        assert!(source.comments.contains("// end"));
        let source = Source::new("let r#type = 1; let bar\u{e9} = br\"x\"; y");
        assert!(source.code.contains("r#type = 1"));
        assert!(source.code.trim_end().ends_with('y'));
    }

    #[test]
    fn views_keep_lines_and_columns() {
        let text = "a // é\n\"b\nc\" d";
        let source = Source::new(text);
        for view in [&source.code, &source.comments, &source.code_and_strings] {
            assert_eq!(view.lines().count(), text.lines().count());
            assert_eq!(view.chars().count(), text.chars().count());
        }
        assert_eq!(line_of(&source.code, source.code.find('d').expect("d is code")), 3);
    }

    #[test]
    fn use_trees_are_written_out() {
        assert_eq!(paths("use std::net::TcpStream;"), ["TcpStream=std::net::TcpStream"]);
        assert_eq!(paths("pub use a::{b::{self, C as D}, e::*,\n};"), ["b=a::b", "D=a::b::C", "*=a::e::*"],);
        assert_eq!(paths("let reuse = 1; // use a::b;\nlet s = \"use c::d;\";"), Vec::<String>::new());
    }

    #[test]
    fn only_pub_use_is_public() {
        let publics = |text: &str| Source::new(text).imports().iter().map(|import| import.public).collect::<Vec<_>>();
        assert_eq!(publics("pub use a::b;"), [true]);
        assert_eq!(publics("use a::b;\npub(crate) use c::d;"), [false, false]);
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("unsafe_code unsafe xunsafe", "unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(words("std::fs::read my_std::fs", "std::fs").collect::<Vec<_>>(), [0]);
    }
}
