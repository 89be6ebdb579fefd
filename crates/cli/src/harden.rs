//! What the process does to itself so that secrets in its memory stay there (protocol, section 13).

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// No core file, no reading of this process by others of the same user, and no file for anybody else.
pub(crate) fn no_dumps() {
    // A system that refuses any of these is no reason to refuse the person: the modes of files are set again where they
    // are made, and a core file still needs a crash.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = umask(Mode::RWXG | Mode::RWXO);
}

/// The text of a panic may hold whatever a value printed, so only its place is shown.
pub(crate) fn no_payload_in_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(%place, "a mistake in this program");
        crate::output::complain(&format!("error: a mistake in this program, at {place}: please report it"));
    }));
}
