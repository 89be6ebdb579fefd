//! libp2p stays inside `net`: no other crate names it, and no public signature of `net` holds one of its types, so its
//! next version changes one crate.

use super::{Problem, dependencies};
use crate::source::{Source, is_name, line_of, words};
use crate::workspace::Member;

/// The one crate that knows libp2p.
const HOME: &str = "crates/net";

/// The one place besides: a peer that keeps no rules, and what it is made of. Only tests are made with it.
const OUTLAW: (&str, &str) = ("crates/lab", "crates/lab/src/raw/");

/// How the names of libp2p's own crates begin.
const NAME: &str = "libp2p";

/// What can be public and has a signature.
const ITEMS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

/// Looks for the dependency outside `net`.
pub(super) fn manifest(member: &Member) -> Vec<Problem> {
    if member.dir == HOME || member.dir == OUTLAW.0 {
        return Vec::new();
    }
    let path = format!("{}/Cargo.toml", member.dir);
    dependencies(&member.manifest)
        .iter()
        .filter(|name| name.starts_with(NAME))
        .map(|name| Problem::at(&path, 0, format!("{name} belongs to {HOME} alone")))
        .collect()
}

/// Outside `net`, looks for the name in code and strings; inside its library, for libp2p types in what is public.
pub(super) fn source(path: &str, source: &Source) -> Vec<Problem> {
    // xtask holds the rule itself.
    if path.starts_with("xtask/") || path.starts_with(OUTLAW.1) {
        return Vec::new();
    }
    if !path.starts_with(HOME) {
        return source
            .code_and_strings
            .match_indices(NAME)
            .map(|(at, _)| {
                Problem::at(path, line_of(&source.code_and_strings, at), format!("libp2p is named outside {HOME}"))
            })
            .collect();
    }
    if path.starts_with("crates/net/src/") { public_signatures(path, source) } else { Vec::new() }
}

fn public_signatures(path: &str, source: &Source) -> Vec<Problem> {
    let imports = source.imports();
    let from_libp2p: Vec<_> =
        imports.iter().filter(|import| import.path.first().is_some_and(|first| first.starts_with(NAME))).collect();
    let mut problems: Vec<Problem> = from_libp2p
        .iter()
        .filter(|import| import.public)
        .map(|import| Problem::at(path, import.line, format!("pub use of libp2p: {}", import.path.join("::"))))
        .collect();
    for at in words(&source.code, "pub") {
        let Some(signature) = signature(&source.code[at..]) else {
            continue;
        };
        let line = line_of(&source.code, at);
        if signature.contains(NAME) {
            problems.push(Problem::at(path, line, "a libp2p type in a public signature"));
        }
        for import in &from_libp2p {
            if words(&signature, &import.name).next().is_some() {
                problems.push(Problem::at(path, line, format!("libp2p's {} in a public signature", import.name)));
            }
        }
    }
    problems
}

/// What the public item that begins here shows of itself: a function up to its body, a struct without its private
/// fields, anything else whole. `None` when this is no item (`pub use`, `pub mod`, a field) or not public (`pub(crate)`).
fn signature(code: &str) -> Option<String> {
    let after = code.strip_prefix("pub")?;
    if after.trim_start().starts_with('(') {
        return None;
    }
    let mut parts = after.split(|c: char| !is_name(c)).filter(|part| !part.is_empty());
    let modifiers = ["const", "async", "unsafe", "extern"];
    let first = parts.next()?;
    let item = if modifiers.contains(&first) { parts.find(|part| !modifiers.contains(part))? } else { first };
    let item = if ITEMS.contains(&item) {
        item
    } else if ITEMS.contains(&first) {
        first
    } else {
        return None;
    };
    let whole = &after[..end_of_item(after)];
    Some(match item {
        "fn" => whole.split('{').next().unwrap_or(whole).to_owned(),
        "struct" | "union" => without_private_fields(whole),
        _ => whole.to_owned(),
    })
}

/// Where an item ends: at its `;`, or where its braces close.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_i32;
    let mut braced = 0_i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' => braced += 1,
            '}' => {
                braced -= 1;
                if braced <= 0 && depth <= 0 {
                    return at;
                }
            }
            ';' if depth == 0 && braced == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

/// A struct's head and its public fields.
fn without_private_fields(whole: &str) -> String {
    let Some(open) = whole.find(['{', '(']) else {
        return whole.to_owned();
    };
    let (head, fields) = whole.split_at(open);
    let mut shown = head.to_owned();
    let mut nesting = 0_i32;
    let mut field = String::new();
    for c in fields[1..].chars() {
        match c {
            '<' | '(' | '[' | '{' => nesting += 1,
            '>' | ')' | ']' | '}' => nesting -= 1,
            _ => {}
        }
        if c == ',' && nesting == 0 {
            shown.push_str(&public_field(&field));
            field.clear();
        } else {
            field.push(c);
        }
    }
    shown.push_str(&public_field(&field));
    shown
}

fn public_field(field: &str) -> String {
    let is_public = words(field, "pub").any(|at| !field[at + "pub".len()..].trim_start().starts_with('('));
    if is_public { format!(" {field}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::member;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        source(path, &Source::new(text)).iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn the_name_outside_its_home_is_found() {
        assert_eq!(manifest(&member("crates/cli", "[dependencies]\nlibp2p-kad = '1'\n")).len(), 1);
        assert_eq!(manifest(&member("crates/net", "[dependencies]\nlibp2p.workspace = true\n")), []);
        assert_eq!(
            lines("crates/handfast/src/a.rs", "//! libp2p\nuse libp2p::PeerId;\nlet f = \"libp2p=warn\";\n"),
            [2, 3]
        );
    }

    #[test]
    fn a_type_in_a_public_signature_is_found() {
        let uses = "use libp2p::{PeerId, Multiaddr as Address};\n";
        for bad in [
            "pub fn dial(peer: PeerId) {}",
            "impl A { pub async fn peer(&self) -> Option<PeerId> { None } }",
            "pub const fn a(x: libp2p::kad::Key) {}",
            "pub struct A { pub peer: Vec<(u8, PeerId)>, other: u8 }",
            "pub struct A(pub Address);",
            "pub enum A { One(PeerId), Two }",
            "pub trait A { fn a(&self) -> Address; }",
            "pub type A = libp2p::Swarm<B>;",
            "pub const A: Option<PeerId> = None;",
            "pub use libp2p::identity;",
        ] {
            assert!(!lines("crates/net/src/a.rs", &format!("{uses}{bad}")).is_empty(), "{bad}");
        }
    }

    #[test]
    fn what_is_private_may_hold_them() {
        let uses = "use libp2p::PeerId;\n";
        for good in [
            "pub struct A { peer: PeerId, pub other: Map<u8, u8> }",
            "pub struct A(PeerId);",
            "pub(crate) fn a(peer: PeerId) {}",
            "fn a(peer: PeerId) {}",
            "pub fn a(peer: OurPeerId) { let p: PeerId = x; }",
            "pub struct A { pub(crate) peer: PeerId, }",
            "pub mod swarm;\nfn a(p: PeerId) {}",
        ] {
            assert_eq!(lines("crates/net/src/a.rs", &format!("{uses}{good}")), [] as [usize; 0], "{good}");
        }
    }
}
