//! `cargo xtask fuzz`: builds libFuzzer around the targets of `fuzz/` and lets each look for cases for some minutes.
//! `fuzz/README.md` says what the numbers mean. CI replays the corpora instead (`fuzz/tests`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::is_there;
use crate::workspace::Workspace;

/// Counters at every edge, and what is compared there: what rustc's LLVM offers, on stable as well.
const RUSTFLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Everything of a run lies here; nothing of it is in the repository.
const FOLDER: &str = "target/fuzz";

/// A case that takes longer is reported as a hang: the slowest targets take milliseconds.
const CASE_SECONDS: u32 = 25;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    minutes: u32,
    keep: bool,
    targets: Vec<String>,
}

/// Runs the named targets, or all, one after another; with `--keep` what they find that reaches more code becomes a part
/// of the corpora. Whether nothing failed.
pub(crate) fn run(workspace: &Workspace, args: &[String], out: &mut dyn Write) -> Result<bool> {
    let wish = Wish::read(args)?;
    if !is_there("c++") && !is_there("g++") {
        bail!("libFuzzer is C++, and there is no compiler for it: install g++");
    }
    let engine = build(workspace.root())?;
    let known = list(&engine)?;
    if let Some(unknown) = wish.targets.iter().find(|name| !known.contains_key(*name)) {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        bail!("no such target: {unknown}; there are {}", names.join(", "));
    }
    let mut ok = true;
    writeln!(out, "{:<22} {:>12} {:>8} {:>8}  found", "target", "cases run", "edges", "corpus")?;
    for (name, max_len) in known.iter().filter(|(name, _)| wish.targets.is_empty() || wish.targets.contains(name)) {
        out.flush()?;
        let target = Target { root: workspace.root(), engine: &engine, name, max_len };
        let done = target.look(wish.minutes)?;
        if wish.keep && done.found.is_empty() {
            target.keep()?;
        }
        let found = if done.found.is_empty() { "nothing".to_owned() } else { done.found.join(", ") };
        writeln!(out, "{name:<22} {:>12} {:>8} {:>8}  {found}", done.cases, done.edges, done.corpus)?;
        ok &= done.found.is_empty() && done.ended;
    }
    Ok(ok)
}

impl Wish {
    fn read(args: &[String]) -> Result<Wish> {
        let mut wish = Wish { minutes: 1, keep: false, targets: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--keep" => wish.keep = true,
                "--minutes" => {
                    let number = args.next().and_then(|text| text.parse().ok()).filter(|minutes| *minutes > 0);
                    wish.minutes = number.context("--minutes takes a number")?;
                }
                option if option.starts_with('-') => bail!("no such option: {option}"),
                name => wish.targets.push(name.to_owned()),
            }
        }
        Ok(wish)
    }
}

/// Builds the engine. Only what is named by `--target` gets the flags, so that build scripts run without them.
fn build(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = host()?;
    let status = Command::new(cargo)
        .args(["build", "--locked", "--release", "--features", "device", "--target", &host])
        .current_dir(root.join("fuzz/engine"))
        .env("CARGO_TARGET_DIR", root.join(FOLDER).join("build"))
        .env("RUSTFLAGS", RUSTFLAGS.join(" "))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the engine could not be built");
    }
    Ok(root.join(FOLDER).join("build").join(host).join("release/fuzz"))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    Ok(host.to_owned())
}

/// The targets with the bytes of their longest cases, as the engine names them.
fn list(engine: &Path) -> Result<BTreeMap<String, String>> {
    let output = Command::new(engine).env("HANDFAST_FUZZ_TARGET", "").output().context("cannot start the engine")?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(name, max_len)| (name.to_owned(), max_len.to_owned())).collect())
}

struct Target<'a> {
    root: &'a Path,
    engine: &'a Path,
    name: &'a str,
    max_len: &'a str,
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    cases: u64,
    edges: u64,
    corpus: u64,
    /// Files with the cases that do not hold.
    found: Vec<String>,
    /// It ran to its end.
    ended: bool,
}

impl Target<'_> {
    /// Looks for new cases, which it collects beside the corpus of the repository.
    fn look(&self, minutes: u32) -> Result<Done> {
        let wrong = self.folder("wrong")?;
        let seconds = minutes.saturating_mul(60);
        let output = self
            .command()
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={CASE_SECONDS}"))
            .arg(format!("-artifact_prefix={}/", wrong.display()))
            .arg("-print_final_stats=1")
            .arg(self.folder("found")?)
            .arg(self.corpus())
            .stdout(Stdio::null())
            .output()
            .context("cannot start the engine")?;
        fs::write(self.folder("log")?.join("last"), &output.stderr)?;
        let mut done = Done { ended: output.status.success(), ..read(&String::from_utf8_lossy(&output.stderr)) };
        for entry in fs::read_dir(&wrong)? {
            done.found.push(entry?.path().display().to_string());
        }
        Ok(done)
    }

    /// Takes into the corpus what reaches an edge that the corpus does not; how often it is reached does not count, so that
    /// corpora stay small.
    fn keep(&self) -> Result<()> {
        let status = self
            .command()
            .arg("-set_cover_merge=1")
            .arg("-use_counters=0")
            .arg(self.corpus())
            .arg(self.folder("found")?)
            .stderr(Stdio::null())
            .status()
            .context("cannot start the engine")?;
        if status.success() { Ok(()) } else { bail!("{}: the corpus could not be merged", self.name) }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.engine);
        command.env("HANDFAST_FUZZ_TARGET", self.name).arg(format!("-max_len={}", self.max_len));
        command
    }

    fn corpus(&self) -> PathBuf {
        self.root.join("fuzz/corpus").join(self.name)
    }

    fn folder(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.root.join(FOLDER).join(kind).join(self.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// Reads libFuzzer's report: `stat::number_of_executed_units: 5`, and the last line with `cov: 9 … corp: 3/12b`.
fn read(report: &str) -> Done {
    let number = |text: Option<&str>| {
        text.and_then(|text| text.split('/').next()).and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let mut done = Done::default();
    for line in report.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied();
        if let Some(cases) = after("stat::number_of_executed_units:") {
            done.cases = number(Some(cases));
        }
        if let Some(edges) = after("cov:") {
            (done.edges, done.corpus) = (number(Some(edges)), number(after("corp:")));
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_libfuzzer_is_read() {
        let report = "#2\tINITED cov: 10 ft: 11 corp: 1/1b\n#812\tDONE   cov: 343 ft: 782 corp: 147/441b lim: 4\n\
                      stat::number_of_executed_units: 812\nstat::average_exec_per_sec:     62\n";
        assert_eq!(read(report), Done { cases: 812, edges: 343, corpus: 147, ..Done::default() });
        assert_eq!(read("nothing"), Done::default());
    }

    #[test]
    fn a_wish_is_read_and_a_wrong_one_refused() {
        let read = |text: &str| Wish::read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let wish = read("--minutes 5 lan --keep pair").expect("a wish");
        assert_eq!(wish, Wish { minutes: 5, keep: true, targets: vec!["lan".to_owned(), "pair".to_owned()] });
        assert!(read("--minutes").is_err() && read("--minutes 0").is_err() && read("--hours 1").is_err());
    }
}
