//! Instances: one device is one folder `<home>/<NAME>/`. Where it is, what is in it, and that nobody else can touch it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use handfast::{Cause, Error};

/// Longest name of an instance: it is a folder, and a part of the path of a socket.
const NAME_MAX: usize = 64;

/// `serve` keeps its identity here, beside the instances.
const NODE_FOLDER: &str = "serve";

/// Bytes of a socket's path on Linux, the final zero apart (unix(7), `sun_path`).
const SOCKET_PATH_MAX: usize = 107;

/// Most characters of a device's name that peers show; a longer default is not worth cutting.
const DEVICE_NAME_MAX: usize = 32;

/// The name of an instance: letters, digits, `.`, `_` and `-`, and no `.` in front, so that it is always one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceName(String);

impl InstanceName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the instance that is used when none is named.
    pub(crate) fn is_default(&self) -> bool {
        self.0 == "default"
    }
}

impl FromStr for InstanceName {
    type Err = String;

    fn from_str(text: &str) -> Result<InstanceName, String> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if text.is_empty() || text.len() > NAME_MAX || !is_plain || text.starts_with('.') {
            return Err(format!(
                "an instance's name has 1 to {NAME_MAX} letters, digits, '.', '_' or '-', and no '.' in front"
            ));
        }
        if text == NODE_FOLDER {
            return Err(format!("the folder of this name belongs to `handfast {NODE_FOLDER}`"));
        }
        Ok(InstanceName(text.to_owned()))
    }
}

/// A device of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Its name.
    pub(crate) name: InstanceName,
    /// The folder of all instances, absolute.
    pub(crate) home: PathBuf,
    /// Whether the command named that folder.
    home_given: bool,
}

impl Instance {
    /// The instance `name` in `home`, or in the default home. Nothing is touched.
    ///
    /// # Errors
    /// `usage` if there is no home, or its path is too long for a socket.
    pub(crate) fn new(name: InstanceName, home: Option<PathBuf>) -> Result<Instance, Error> {
        let home_given = home.is_some();
        let home = match home.or_else(default_home) {
            Some(home) => std::path::absolute(home).map_err(|e| Error::because(Cause::Usage, e))?,
            None => {
                return Err(Error::because(Cause::Usage, "there is no home folder")
                    .with_hint("name one with --home, or set HANDFAST_HOME or HOME"));
            }
        };
        let instance = Instance { name, home, home_given };
        let length = instance.socket().as_os_str().len();
        if length > SOCKET_PATH_MAX {
            let text = format!(
                "the path of the control socket has {length} bytes, and the system allows {SOCKET_PATH_MAX}: {}",
                instance.socket().display()
            );
            return Err(Error::because(Cause::Usage, text).with_hint("use a shorter --home or --instance"));
        }
        Ok(instance)
    }

    /// A text for people in which every command for this machine names this instance as the running one did.
    pub(crate) fn in_commands(&self, text: &str) -> String {
        let mut program = "`handfast ".to_owned();
        if self.home_given {
            program.push_str(&format!("--home {} ", quoted(&self.home.to_string_lossy())));
        }
        if !self.name.is_default() {
            program.push_str(&format!("--instance {} ", self.name.as_str()));
        }
        // What names them already is not told twice. A node is no device of an instance.
        text.replace(&program, "`handfast ")
            .replace("`handfast ", &program)
            .replace(&format!("{program}serve"), "`handfast serve")
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.home.join(self.name.as_str())
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir().join("control.sock")
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir().join("log").join("handfast.log")
    }

    /// Where `serve` keeps its identity if it is not told.
    pub(crate) fn node_data(&self) -> PathBuf {
        self.home.join(NODE_FOLDER)
    }

    /// Makes the home and the folder of the instance, or checks those that are there.
    ///
    /// # Errors
    /// `storage` if another user could change what is in them.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        self.prepare_home()?;
        private_folder(&self.dir(), 0o077)?;
        private_folder(&self.dir().join("log"), 0o077)
    }

    /// Makes the home, or checks the one that is there. Others may look into it, as they may into a home folder: what
    /// is secret lies in folders of its own, which are checked by themselves.
    ///
    /// # Errors
    /// `storage` if another user could change what is in it.
    pub(crate) fn prepare_home(&self) -> Result<(), Error> {
        private_folder(&self.home, 0o022)
    }

    /// Checks the home and the folder of the instance, as far as they are there, and makes nothing.
    ///
    /// # Errors
    /// `storage` if one of them is not safe to use or cannot be looked at.
    pub(crate) fn check_folders(&self) -> Result<(), Error> {
        for (path, forbidden) in [(self.home.clone(), 0o022), (self.dir(), 0o077)] {
            match fs::symlink_metadata(&path) {
                Ok(_) => safe_folder(&path, forbidden)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(&path, error)),
            }
        }
        Ok(())
    }

    /// Whether something can be stored in the folder of the instance, which is there.
    ///
    /// # Errors
    /// `storage` if not.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        // It has no name, so that nothing is left of it.
        tempfile::tempfile_in(self.dir()).map(drop).map_err(|error| failed(&self.dir(), error))
    }

    /// The name others see if nobody chose one: the host's, and which instance it is unless it is the default one.
    pub(crate) fn device_name(&self) -> String {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        if self.name.is_default() {
            return host;
        }
        let both = format!("{host} ({})", self.name.as_str());
        if both.chars().count() <= DEVICE_NAME_MAX { both } else { host }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b':');
    if word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The folder of all instances when `--home` does not name it.
fn default_home() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("HANDFAST_HOME")
        // A relative one is to be ignored, as its specification says.
        .or_else(|| path("XDG_DATA_HOME").filter(|data| data.is_absolute()).map(|data| data.join("handfast")))
        .or_else(|| path("HOME").map(|home| home.join(".local/share/handfast")))
}

/// Makes a folder with mode 0700, or checks that the one there is ours, is no link, and grants others none of `forbidden`.
fn private_folder(path: &Path, forbidden: u32) -> Result<(), Error> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(path, error)),
        // The check says what is there instead of a folder.
        Ok(()) | Err(_) => safe_folder(path, forbidden),
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::because(Cause::Storage, format!("{}: {error}", path.display()))
}

fn safe_folder(path: &Path, forbidden: u32) -> Result<(), Error> {
    let meta = fs::symlink_metadata(path).map_err(|error| failed(path, error))?;
    let problem = if meta.file_type().is_symlink() {
        "it is a symbolic link"
    } else if !meta.is_dir() {
        "it is not a folder"
    } else if meta.uid() != rustix::process::geteuid().as_raw() {
        "it belongs to another user"
    } else if meta.permissions().mode() & forbidden != 0 {
        "other users may use it; take their rights away (chmod go-rwx)"
    } else {
        return Ok(());
    };
    Err(Error::because(Cause::Storage, format!("{} is not safe to use: {problem}", path.display()))
        .with_hint("use another --home, or mend this one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> InstanceName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_name_is_always_one_folder() {
        for good in ["default", "a", "alice-2", "a.b_c", &"x".repeat(NAME_MAX)] {
            assert!(good.parse::<InstanceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".x", "a/b", "a b", "ä", "serve", &"x".repeat(NAME_MAX + 1)] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn attack_49_folders_others_could_change_are_refused() {
        let temporary = tempfile::tempdir().expect("a folder");
        let home = temporary.path().join("home");
        let instance = Instance::new(name("alice"), Some(home.clone())).expect("an instance");
        instance.prepare().expect("made");
        instance.prepare().expect("checked");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!([mode(&home), mode(&instance.dir()), mode(&instance.dir().join("log"))], [0o700; 3]);
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        set(&instance.dir(), 0o750);
        assert_eq!(instance.prepare().expect_err("too wide").cause, Cause::Storage);
        set(&instance.dir(), 0o700);
        set(&home, 0o755);
        instance.prepare().expect("others may look into the home");
        set(&home, 0o775);
        assert!(instance.prepare().is_err());
        set(&home, 0o700);
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(&home, &link).expect("a link");
        assert!(Instance::new(name("alice"), Some(link)).expect("an instance").prepare().is_err());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_its_length() {
        let home = PathBuf::from("/").join("h".repeat(100));
        let error = Instance::new(name("alice"), Some(home)).expect_err("too long");
        assert_eq!(error.cause, Cause::Usage);
        assert!(error.text.contains("120 bytes"), "{}", error.text);
    }

    #[test]
    fn a_device_is_called_as_the_host_and_the_instance() {
        let of = |text: &str| Instance { name: name(text), home: PathBuf::from("/h"), home_given: false }.device_name();
        let host = of("default");
        assert_eq!(of(&"x".repeat(40)), host);
        if host.len() < 20 {
            assert_eq!(of("bob"), format!("{host} (bob)"));
        }
    }
}
