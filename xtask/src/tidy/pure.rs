//! `proto` decides and touches nothing: no sockets, files, environment, threads, clock, ambient randomness, and no
//! collections whose order differs from run to run.

use super::{Problem, dependencies};
use crate::source::{Source, line_of, words};
use crate::workspace::Member;

/// The pure crate.
const PURE: &str = "crates/proto";

/// What its manifest must not name: all of these bring the operating system in.
const DEPENDENCIES: [&str; 9] = ["tokio", "socket2", "libp2p", "getrandom", "redb", "rustix", "axum", "mio", "nix"];

/// Paths that its sources must not import, in whole or in part.
const PATHS: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::TcpListener",
    "std::io::stdin",
];

/// Names that its sources must not hold anywhere.
const NAMES: [&str; 11] = [
    "TcpStream",
    "UdpSocket",
    "TcpListener",
    "Instant::now",
    "SystemTime::now",
    "HashMap",
    "HashSet",
    "OsRng",
    "SysRng",
    "thread_rng",
    "getrandom",
];

/// Looks for a dependency that brings in what `proto` must not touch.
pub(super) fn manifest(member: &Member) -> Vec<Problem> {
    if member.dir != PURE {
        return Vec::new();
    }
    let path = format!("{PURE}/Cargo.toml");
    dependencies(&member.manifest)
        .iter()
        .filter(|name| DEPENDENCIES.contains(&name.as_str()))
        .map(|name| Problem::at(&path, 0, format!("the pure crate must not depend on {name}")))
        .collect()
}

/// Looks for the same in the sources. (Tests beside the sources may read their vectors from files.)
pub(super) fn source(path: &str, source: &Source) -> Vec<Problem> {
    if !path.starts_with("crates/proto/src/") {
        return Vec::new();
    }
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in NAMES.iter().chain(&PATHS) {
        found.extend(words(&source.code, name).map(|at| (line_of(&source.code, at), *name)));
    }
    for import in source.imports() {
        // The import of a whole module is an import of the bad part too.
        let whole = import.path.join("::");
        found.extend(PATHS.iter().filter(|bad| import.is_under(bad)).map(|bad| (import.line, *bad)));
        found.extend(
            PATHS
                .iter()
                .filter(|bad| whole.strip_suffix('*').is_some_and(|open| bad.starts_with(open)))
                .map(|bad| (import.line, *bad)),
        );
    }
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|(line, name)| Problem::at(path, line, format!("the pure crate must not use {name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::member;
    use super::*;

    const FILE: &str = "crates/proto/src/a.rs";

    #[test]
    fn a_dependency_on_the_system_is_found() {
        for name in DEPENDENCIES {
            let bad = member("crates/proto", &format!("[dev-dependencies]\n{name}.workspace = true\n"));
            assert_eq!(manifest(&bad).len(), 1, "{name}");
            let good = member("crates/net", &format!("[dependencies]\n{name}.workspace = true\n"));
            assert_eq!(manifest(&good), [], "{name}");
        }
    }

    #[test]
    fn a_touch_of_the_system_is_found() {
        for bad in [
            "let s = std::net::TcpStream::connect(a);",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::net::TcpListener as L;",
            "let t = std::fs::read(p);",
            "use std::{env, fmt};",
            "std::thread::spawn(f);",
            "let now = Instant::now();",
            "let now = std::time::SystemTime::now();",
            "let m: HashMap<u8, u8> = x;",
            "use std::collections::{BTreeMap, HashSet};",
            "use std::net::*;",
            "let mut r = rand_core::OsRng;",
        ] {
            assert!(!source(FILE, &Source::new(bad)).is_empty(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_comments_are_allowed() {
        let good =
            Source::new("//! No HashMap here.\nuse std::net::{IpAddr, Ipv4Addr};\nuse std::collections::BTreeMap;\n");
        assert_eq!(source(FILE, &good), []);
        let elsewhere = Source::new("let now = Instant::now();");
        assert_eq!(source("crates/net/src/a.rs", &elsewhere), []);
    }
}
