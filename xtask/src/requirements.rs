//! Which requirement ids (A1..A54, B1..B49, C1..C26) the tests name, in their names or in the doc lines above them.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;

use crate::workspace::Workspace;

/// The checklists: letter, and how many ids it has.
const LISTS: [(char, u32); 3] = [('A', 54), ('B', 49), ('C', 26)];

/// One requirement: its list and its number.
type Id = (char, u32);

/// Lists every id with the tests that name it, then the ids that none names.
pub(crate) fn run(workspace: &Workspace, out: &mut dyn Write) -> Result<bool> {
    let mut tests: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for file in
        workspace.text_files()?.iter().filter(|file| file.path.ends_with(".rs") && !file.path.starts_with("xtask/"))
    {
        for (id, name) in named(&file.text) {
            tests.entry(id).or_default().push(format!("{}::{name}", file.path));
        }
    }
    for (id, names) in &tests {
        writeln!(out, "{}{}  {}", id.0, id.1, names.join(", "))?;
    }
    for (list, count) in LISTS {
        let missing: Vec<String> =
            (1..=count).filter(|n| !tests.contains_key(&(list, *n))).map(|n| format!("{list}{n}")).collect();
        writeln!(
            out,
            "\n{list}: {} of {count} named by tests; not named: {}",
            count as usize - missing.len(),
            or_none(&missing)
        )?;
    }
    Ok(true)
}

fn or_none(ids: &[String]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(" ") }
}

/// The ids that the tests of one file name, with the test's name.
fn named(text: &str) -> Vec<(Id, String)> {
    let mut found = Vec::new();
    let mut docs: Vec<&str> = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc);
        } else if line.starts_with("#[") {
            is_test |= line.contains("test]") || line.contains("test(");
        } else if let Some(name) = is_test.then(|| function_name(line)).flatten() {
            let mut ids: Vec<Id> = docs.iter().flat_map(|doc| ids_in(doc, char::is_alphanumeric)).collect();
            ids.extend(ids_in(&name.to_uppercase(), char::is_alphanumeric));
            ids.sort_unstable();
            ids.dedup();
            found.extend(ids.into_iter().map(|id| (id, name.to_owned())));
            docs.clear();
            is_test = false;
        } else if !line.starts_with("//") {
            docs.clear();
            is_test = false;
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let rest = &line[line.find("fn ")? + "fn ".len()..];
    Some(&rest[..rest.find(|c: char| !crate::source::is_name(c))?])
}

/// The ids in a text: a letter and a number that stand alone; `B13-B16` names all four.
fn ids_in(text: &str, is_part: fn(char) -> bool) -> Vec<Id> {
    let mut ids: Vec<Id> = Vec::new();
    let mut range_from: Option<Id> = None;
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let gap = &rest[..start];
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |n| start + n);
        let id = id(&rest[start..end]);
        if let (Some((list, from)), Some((same, to)), "-" | ".." | "..=") = (range_from, id, gap)
            && list == same
        {
            ids.extend((from + 1..to).map(|n| (list, n)));
        }
        ids.extend(id);
        range_from = id;
        rest = &rest[end..];
    }
    ids
}

fn id(word: &str) -> Option<Id> {
    let list = word.chars().next()?;
    let count = LISTS.iter().find(|(letter, _)| *letter == list)?.1;
    let digits = &word[list.len_utf8()..];
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let number: u32 = is_plain.then(|| digits.parse().ok()).flatten()?;
    (number <= count).then_some((list, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_names_and_docs_of_tests() {
        let text = "/// B3, C24: words.\n#[test]\nfn a_word() {}\n\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn b18_fresh() {}\n";
        let found = named(text);
        let expected = [(('B', 3), "a_word"), (('C', 24), "a_word"), (('B', 18), "b18_fresh")];
        assert_eq!(found, expected.map(|(id, name)| (id, name.to_owned())));
    }

    #[test]
    fn what_is_no_test_names_nothing() {
        assert_eq!(named("/// B3\nfn b4_helper() {}\n"), []);
        assert_eq!(named("/// B3\n\n#[test]\nfn other() {}\n"), []);
    }

    #[test]
    fn ranges_name_all_between() {
        assert_eq!(ids_in("B13-B16", char::is_alphanumeric), [('B', 13), ('B', 14), ('B', 15), ('B', 16)]);
        assert_eq!(ids_in("A55 B0 BX X1 B07 AB3", char::is_alphanumeric), []);
    }
}
