//! Can the lab run here? One answer for all tests, so that nothing is skipped silently.

use std::path::{Path, PathBuf};

/// Programs the lab calls, each with the Debian package that brings it.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
];

/// Where administrators' programs live although an ordinary search path may not name these places.
const EXTRA_PATH: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Why the lab cannot run here, in a sentence for people; `None` when it can.
#[must_use]
pub fn reason() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the lab needs root to make network namespaces".to_owned());
    }
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect();
    (!missing.is_empty()).then(|| format!("missing Debian packages: {}", missing.join(" ")))
}

/// As [`reason`], for tests that also need the clock moved by libfaketime (package `faketime`).
#[must_use]
pub fn faketime_library() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?;
    libraries
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
}

/// As [`reason`], for tests that also need an independent STUN server and client (package `coturn`).
#[must_use]
pub fn coturn() -> Option<String> {
    let missing = ["turnserver", "turnutils_natdiscovery"].into_iter().any(|program| find_program(program).is_none());
    missing.then(|| "missing Debian packages: coturn".to_owned())
}

/// As [`reason`], for tests that also need a router that maps ports (package `miniupnpd-nftables`).
#[must_use]
pub fn miniupnpd() -> Option<String> {
    find_program("miniupnpd").is_none().then(|| "missing Debian packages: miniupnpd-nftables".to_owned())
}

/// As [`reason`], for tests that also need packages of npm (package `npm`).
#[must_use]
pub fn npm() -> Option<String> {
    find_program("npm").is_none().then(|| "missing Debian packages: npm".to_owned())
}

/// Says on stderr why a test is skipped and returns true; with `CI=true` a skipped test is a failed one.
///
/// # Panics
/// When `CI` is `true` and the lab cannot run here.
#[must_use]
pub fn skipped(test: &str, why: Option<String>) -> bool {
    use std::io::Write as _;
    let Some(why) = why else { return false };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI skips nothing, but {test} cannot run: {why}");
    // Nobody reads the message when stderr is closed, and the test is skipped all the same.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
    true
}

/// The search path for child processes: ours and the places of administrators' programs.
#[must_use]
pub fn search_path() -> String {
    let mut path = std::env::var("PATH").unwrap_or_default();
    for extra in EXTRA_PATH {
        if !path.split(':').any(|part| part == extra) {
            path.push(':');
            path.push_str(extra);
        }
    }
    path
}

/// Where `program` is, if it is anywhere in [`search_path`].
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    search_path().split(':').map(|part| Path::new(part).join(program)).find(|file| file.is_file())
}
