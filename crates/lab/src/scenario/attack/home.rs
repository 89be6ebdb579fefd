//! Attacks from the same machine: another user, a second instance, a home that others can read or that is somewhere
//! else.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::stage::{ANSWER, Case, PATIENCE, Stage, case};
use crate::device::{Device, binary};
use crate::files;
use crate::process::{Output, Running, Start};
use crate::scenario::pairing::Ending;
use crate::skip::find_program;

pub(super) const CASES: &[Case] = &[
    case("49", "a second instance on the same store", second_instance),
    case("49", "a home that others may read", wide_home),
    case("49", "a file of the home that others may read", wide_file),
    case("49", "a home that is a symbolic link", linked_home),
    case("49", "another user on the control socket", another_user),
    case("49", "modes of everything that a device makes", own_modes),
];

/// What a command ends with whose store cannot be used safely.
const STORAGE: (i32, &str) = (11, "storage");

/// `nobody` of Debian.
const NOBODY: &str = "65534";

/// A device that ran once, so that its home is there.
fn settled(stage: &Stage, name: &str) -> Result<Device> {
    let mut carol = stage.world.device("carol", name)?;
    carol.start_daemon()?;
    carol.stop()?;
    Ok(carol)
}

/// Every command that would run the device refuses, and says why under this cause.
fn must_refuse(device: &Device, (exit, cause): (i32, &str)) -> Result<String> {
    let network = device.network_options();
    let mut seen = String::new();
    for command in [&["start", "--foreground", "--json"][..], &["pair", "generate", "--yes", "--json"]] {
        let output = device.run(&[command, network.as_slice()].concat(), None, PATIENCE)?;
        let ending = Ending::of(&output);
        let right = ending.exit == Some(exit) && ending.cause.as_deref() == Some(cause);
        ensure!(right, "{} ended with {ending}, not {exit} {cause}: {}", command[0], tail(&output));
        ensure!(!output.stdout.contains("code_created"), "{} showed a code", command[0]);
        seen = ending.to_string();
    }
    Ok(seen)
}

fn tail(output: &Output) -> String {
    format!("{} {}", output.stdout.trim(), output.stderr.trim())
}

fn second_instance(stage: &Stage) -> Result<String> {
    let before = stage.alice.status()?.id;
    let network = stage.alice.network_options();
    let args = [&["start", "--foreground", "--json"], network.as_slice()].concat();
    let output = stage.alice.run(&args, None, PATIENCE)?;
    let ending = Ending::of(&output);
    ensure!(
        ending.exit == Some(10) && ending.cause.as_deref() == Some("already_running"),
        "a second start ended with {ending}: {}",
        tail(&output)
    );
    ensure!(stage.alice.status()?.id == before, "the first instance is another one now");
    Ok(format!("{ending}; the first goes on"))
}

fn wide_home(stage: &Stage) -> Result<String> {
    let carol = settled(stage, "wide-home")?;
    let mut seen = String::new();
    for mode in [0o755, 0o750, 0o770] {
        fs::set_permissions(carol.dir(), Permissions::from_mode(mode))?;
        seen = must_refuse(&carol, STORAGE).with_context(|| format!("mode {mode:o}"))?;
    }
    fs::set_permissions(carol.dir(), Permissions::from_mode(0o700))?;
    runs_again(carol)?;
    Ok(seen)
}

fn wide_file(stage: &Stage) -> Result<String> {
    let carol = settled(stage, "wide-file")?;
    let mut seen = Vec::new();
    for file in store_files(&carol)? {
        fs::set_permissions(&file, Permissions::from_mode(0o644))?;
        must_refuse(&carol, STORAGE).with_context(|| file.display().to_string())?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        seen.push(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    ensure!(!seen.is_empty(), "the device has no files");
    runs_again(carol)?;
    Ok(format!("refused for each of {}", seen.join(", ")))
}

fn linked_home(stage: &Stage) -> Result<String> {
    let carol = settled(stage, "linked")?;
    let elsewhere = carol.host().home().join("elsewhere");
    fs::rename(carol.dir(), &elsewhere)?;
    symlink(&elsewhere, carol.dir())?;
    let seen = must_refuse(&carol, STORAGE)?;
    // Nothing may be written through a link to nowhere either.
    let empty = carol.host().home().join("empty");
    let fresh = stage.world.device("carol", "linked-fresh")?;
    symlink(&empty, fresh.dir())?;
    must_refuse(&fresh, STORAGE).context("a link to nowhere")?;
    ensure!(!empty.exists(), "a folder was made through the link");
    fs::remove_file(carol.dir())?;
    fs::rename(&elsewhere, carol.dir())?;
    runs_again(carol)?;
    Ok(seen)
}

fn runs_again(mut device: Device) -> Result<()> {
    device.start_daemon().context("with its home as it was")?;
    device.stop().map(drop)
}

fn another_user(stage: &Stage) -> Result<String> {
    let home = stage.alice.host().home().display().to_string();
    let dir = stage.alice.dir();
    let instance = dir.file_name().context("an instance")?.to_string_lossy().into_owned();
    let mut seen = Vec::new();
    for command in [&["status"][..], &["devices"], &["pair", "generate", "--yes"], &["stop"]] {
        let mut args: Vec<String> =
            ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"].map(str::to_owned).to_vec();
        args.push(binary()?.display().to_string());
        for part in ["--instance", &instance, "--home", &home].into_iter().chain(command.iter().copied()) {
            args.push(part.to_owned());
        }
        args.push("--json".to_owned());
        let setpriv = find_program("setpriv").context("no program setpriv (package util-linux)")?;
        let start = Start { program: &setpriv, args, env: stage.alice.env().to_vec(), stdin: None };
        let output = Running::start(stage.alice.host(), &start)?.finish(PATIENCE)?;
        ensure!(!output.status.success(), "{} works for another user: {}", command[0], tail(&output));
        for secret in [stage.alice.status()?.id.as_str(), "code_created"] {
            ensure!(!output.stdout.contains(secret), "{} told another user: {}", command[0], tail(&output));
        }
        seen.push(format!("{} {}", command[0], Ending::of(&output)));
    }
    another_user_past_the_modes(stage)?;
    ensure!(stage.alice.status()?.running, "another user stopped the device");
    Ok(format!("{}; with every mode open the socket says nothing", seen.join(", ")))
}

/// Opens every folder on the way and the socket itself, so that only the check of the peer's user is left.
fn another_user_past_the_modes(stage: &Stage) -> Result<()> {
    let dir = stage.alice.dir();
    let mut ways: Vec<(PathBuf, u32)> = Vec::new();
    for path in dir.ancestors().take_while(|path| path.starts_with(stage.world.lab.dir())) {
        ways.push((path.to_owned(), 0o755));
    }
    let sockets =
        fs::read_dir(&dir)?.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let socket = sockets.map(|entry| entry.path()).next().context("the device has no control socket")?;
    ways.push((socket.clone(), 0o666));
    let mut before = Vec::new();
    for (path, mode) in &ways {
        before.push(fs::metadata(path)?.permissions());
        fs::set_permissions(path, Permissions::from_mode(*mode))?;
    }
    let (own, other) = (ask(&socket, None), ask(&socket, Some(NOBODY.parse()?)));
    for ((path, _), permissions) in ways.iter().zip(before) {
        fs::set_permissions(path, permissions)?;
    }
    ensure!(own?.starts_with("HTTP/1.1 "), "the owner gets no answer");
    let other = other?;
    ensure!(other.is_empty(), "another user is answered: {other}");
    Ok(())
}

/// Says one request on a socket, from a thread of another user if one is given; gives the answer.
fn ask(socket: &Path, user: Option<u32>) -> Result<String> {
    let socket = socket.to_owned();
    let asking = std::thread::spawn(move || -> Result<String> {
        if let Some(user) = user {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            set_thread_groups(&[])?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)?;
        }
        let mut stream = UnixStream::connect(socket).context("connecting to the control socket")?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut answer = String::new();
        // A refused client may find the socket closed already, or closed with its request unread.
        let asked = stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: handfast\r\nConnection: close\r\n\r\n");
        if let Err(error) = asked.and_then(|()| stream.read_to_string(&mut answer)) {
            ensure!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "no end of the answer: {error}"
            );
        }
        Ok(answer)
    });
    asking.join().ok().context("a thread panicked")?
}

fn own_modes(stage: &Stage) -> Result<String> {
    let dir = stage.alice.dir();
    let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    if mode(&dir)? != 0o700 {
        bail!("the home has mode {:o}", mode(&dir)?);
    }
    let mut count = 0;
    for file in files::below(&dir)? {
        ensure!(mode(&file)? & 0o077 == 0, "{} has mode {:o}", file.display(), mode(&file)?);
        count += 1;
    }
    // The control socket is no plain file.
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        ensure!(mode(&path)? & 0o077 == 0, "{} has mode {:o}", path.display(), mode(&path)?);
    }
    Ok(format!("{count} files, none for others"))
}

/// The files of a device but its log, which holds no secret.
fn store_files(device: &Device) -> Result<Vec<PathBuf>> {
    let all = files::below(&device.dir())?;
    Ok(all.into_iter().filter(|file| file.parent() == Some(device.dir().as_path())).collect())
}
