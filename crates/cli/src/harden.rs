//! What the process does to itself so that secrets in its memory stay there (protocol, section 13).

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask};

/// No core file, no reading of this process by others of the same user, and no file for anybody else.
pub(crate) fn no_dumps() {
    // A system that refuses any of these is no reason to refuse the person: the modes of files are set again where they
    // are made, and a core file still needs a crash.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = umask(Mode::RWXG | Mode::RWXO);
}

/// Keeps the memory of this process out of the swap space, where the system lets it lock as much as it wants (root, or a
/// service with `LimitMEMLOCK=infinity`). All of it, since single pages cannot be locked without unsafe code; only pages
/// that are used. Under a limit nothing is locked: what does not fit could not be allocated any more.
pub(crate) fn lock_memory() {
    let limit = getrlimit(Resource::Memlock);
    if limit.maximum.is_some() {
        // Under a limit of nothing it succeeds only for who is above limits, whatever the names of the rights are.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit });
        lock_all();
        let _ = setrlimit(Resource::Memlock, limit);
    } else if setrlimit(Resource::Memlock, Rlimit { current: None, ..limit }).is_ok() {
        lock_all();
    }
}

fn lock_all() {
    // Where it is not possible, or the kernel does not know it, secrets may be swapped (docs/threats.md).
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
}

/// The text of a panic may hold whatever a value printed, so only its place is shown.
pub(crate) fn no_payload_in_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(%place, "a mistake in this program");
        crate::output::complain(&format!("error: a mistake in this program, at {place}: please report it"));
    }));
}
