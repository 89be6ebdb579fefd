//! Imports point only down: proto, net, handfast, cli. The lab stands beside them and xtask apart.

use super::{Problem, dependencies};
use crate::source::{Source, line_of, words};
use crate::workspace::Member;

/// A crate of ours: its folder, the name it is imported by, and the package name.
struct Layer {
    dir: &'static str,
    import: &'static str,
    package: &'static str,
    /// The packages it may use.
    below: &'static [&'static str],
}

/// Every crate of the workspace and what it may import of the others.
const LAYERS: [Layer; 7] = [
    Layer { dir: "crates/proto", import: "handfast_proto", package: "handfast-proto", below: &[] },
    Layer { dir: "crates/net", import: "handfast_net", package: "handfast-net", below: &["handfast-proto"] },
    Layer {
        dir: "crates/handfast",
        import: "handfast",
        package: "handfast",
        below: &["handfast-proto", "handfast-net"],
    },
    // The command is a thin user of the library: it reaches protocol and network only through it.
    Layer { dir: "crates/cli", import: "handfast_cli", package: "handfast-cli", below: &["handfast"] },
    // The lab runs the real program from outside; its attackers speak the protocol themselves.
    Layer {
        dir: "crates/lab",
        import: "handfast_lab",
        package: "handfast-lab",
        below: &["handfast-net", "handfast-proto"],
    },
    // Its targets call whatever reads bytes from outside.
    Layer { dir: "fuzz", import: "handfast_fuzz", package: "handfast-fuzz", below: &["handfast", "handfast-proto"] },
    Layer { dir: "xtask", import: "xtask", package: "xtask", below: &[] },
];

/// Looks for a dependency that points up or sideways.
pub(super) fn manifest(member: &Member) -> Vec<Problem> {
    let path = format!("{}/Cargo.toml", member.dir);
    let Some(own) = LAYERS.iter().find(|layer| layer.dir == member.dir) else {
        return vec![Problem::at(&path, 0, "a crate that has no layer: add it to xtask/src/tidy/layers.rs")];
    };
    dependencies(&member.manifest)
        .iter()
        .filter(|name| LAYERS.iter().any(|layer| layer.package == name.as_str()))
        .filter(|name| !own.below.contains(&name.as_str()))
        .map(|name| {
            Problem::at(&path, 0, format!("{} must not depend on {name}: imports point only down", own.package))
        })
        .collect()
}

/// Looks for a path into a crate that is not below this one.
pub(super) fn source(path: &str, source: &Source) -> Vec<Problem> {
    let Some(own) = LAYERS.iter().find(|layer| path.strip_prefix(layer.dir).is_some_and(|rest| rest.starts_with('/')))
    else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for other in LAYERS.iter().filter(|other| other.package != own.package && !own.below.contains(&other.package)) {
        let in_a_path = format!("{}::", other.import);
        let paths = words(&source.code, &in_a_path).map(|at| line_of(&source.code, at));
        let imports = source.imports();
        let imported = imports.iter().filter(|import| import.is_under(other.import)).map(|import| import.line);
        let mut lines: Vec<usize> = paths.chain(imported).collect();
        lines.sort_unstable();
        lines.dedup();
        problems.extend(lines.into_iter().map(|line| {
            Problem::at(path, line, format!("{} must not use {}: imports point only down", own.package, other.package))
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tests::member;
    use super::*;

    #[test]
    fn a_dependency_that_points_up_is_found() {
        let bad = member("crates/net", "[dev-dependencies]\nhandfast.workspace = true\n");
        assert_eq!(manifest(&bad).len(), 1);
        let bad = member("crates/proto", "[dependencies]\nhandfast-net = { path = '../net' }\n");
        assert_eq!(manifest(&bad).len(), 1);
    }

    #[test]
    fn a_dependency_that_points_sideways_is_found() {
        let bad = member("crates/cli", "[dev-dependencies]\nhandfast-lab.workspace = true\n");
        assert_eq!(manifest(&bad).len(), 1);
        let bad = member("crates/handfast", "[dependencies]\nlab = { package = 'handfast-lab', path = '../lab' }\n");
        assert_eq!(manifest(&bad).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(manifest(&member("crates/new", "")).len(), 1);
    }

    #[test]
    fn what_points_down_is_allowed() {
        let good = member("crates/cli", "[dependencies]\nhandfast.workspace = true\nserde.workspace = true\n");
        assert_eq!(manifest(&good), []);
    }

    #[test]
    fn a_path_that_points_up_is_found() {
        let bad = Source::new("fn f() {\n    handfast::pair();\n}\nuse {handfast_cli as c};\n");
        let lines: Vec<usize> = source("crates/net/src/a.rs", &bad).iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 4]);
        let good = Source::new("//! handfast::pair\nuse handfast_proto::time::Time;\nlet s = \"handfast::x\";\n");
        assert_eq!(source("crates/net/src/a.rs", &good), []);
    }
}
