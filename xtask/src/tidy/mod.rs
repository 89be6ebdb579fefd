//! Rules of this code base that neither the compiler nor clippy knows. Each rule is a function from the project's files
//! to problems, with a test that shows it a bad sample.

mod layers;
mod libp2p;
mod pure;
mod text;

use std::io::Write;

use anyhow::Result;

use crate::workspace::{Member, TextFile, Workspace};

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file, relative to the root.
    pub(crate) path: String,
    /// The line from 1, or 0 when the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) what: String,
}

impl Problem {
    /// A problem at one line of a file.
    pub(crate) fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

/// Checks the whole project; prints what it finds, or that it found nothing.
pub(crate) fn run(workspace: &Workspace, out: &mut dyn Write) -> Result<bool> {
    let members = workspace.members()?;
    let files = workspace.text_files()?;
    let problems = check(&members, &files);
    for problem in &problems {
        if problem.line == 0 {
            writeln!(out, "{}: {}", problem.path, problem.what)?;
        } else {
            writeln!(out, "{}:{}: {}", problem.path, problem.line, problem.what)?;
        }
    }
    writeln!(out, "tidy: {} files, {} problems", files.len(), problems.len())?;
    Ok(problems.is_empty())
}

fn check(members: &[Member], files: &[TextFile]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in members {
        problems.extend(layers::manifest(member));
        problems.extend(pure::manifest(member));
        problems.extend(libp2p::manifest(member));
    }
    for file in files {
        problems.extend(text::any_file(file));
        if file.path.ends_with(".rs") {
            let source = crate::source::Source::new(&file.text);
            problems.extend(layers::source(&file.path, &source));
            problems.extend(pure::source(&file.path, &source));
            problems.extend(libp2p::source(&file.path, &source));
            problems.extend(text::rust_file(file, &source));
        }
    }
    problems
}

/// The names of everything a manifest depends on, with the table each stands in; `package = "…"` counts as the name.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(listed) = table.get(kind).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in listed {
                let package = value.get("package").and_then(toml::Value::as_str);
                names.push(package.unwrap_or(name).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member with this manifest.
    pub(super) fn member(dir: &str, manifest: &str) -> Member {
        Member { dir: dir.to_owned(), manifest: manifest.parse().expect("the sample is valid") }
    }

    #[test]
    fn dependencies_of_every_kind_are_seen() {
        let manifest = "[dependencies]\na = '1'\n[dev-dependencies]\nb.workspace = true\n[build-dependencies]\nc = '1'\n\
                        [target.'cfg(unix)'.dependencies]\nd = { package = 'e', version = '1' }\n";
        let manifest: toml::Table = manifest.parse().expect("the sample is valid");
        assert_eq!(dependencies(&manifest), ["a", "b", "c", "e"]);
    }

    #[test]
    fn every_rule_is_asked() {
        let members = [
            member("crates/proto", "[dependencies]\nhandfast.workspace = true\ntokio.workspace = true\n"),
            member("crates/cli", "[dependencies]\nlibp2p.workspace = true\n"),
        ];
        let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("crates/proto/src/a.rs", "fn f() { handfast_net::f(); let m = HashMap::new(); }"),
            file("crates/net/src/a.rs", "//! A.\npub use libp2p::PeerId;\n"),
            file("docs/a.md", concat!("in /", "work/\n")),
        ];
        let problems = check(&members, &files);
        let on = |path: &str| problems.iter().filter(|problem| problem.path == path).count();
        assert_eq!(on("crates/proto/Cargo.toml"), 2, "layer and purity");
        assert_eq!(on("crates/cli/Cargo.toml"), 1, "libp2p");
        assert_eq!(on("crates/proto/src/a.rs"), 3, "layer, purity and first line");
        assert_eq!(on("crates/net/src/a.rs"), 1, "public libp2p");
        assert_eq!(on("docs/a.md"), 1, "machine path");
        assert_eq!(problems.len(), 8);
    }
}
