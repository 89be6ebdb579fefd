//! The file of `pair generate --qr-image`: a code in clear, so it is made for its owner alone, never over or through
//! anything that is there, and taken away when the code is over (protocol, section 13).

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use handfast::{Cause, Error};
use tempfile::NamedTempFile;

use super::image::{self, Format};

/// A picture file of a code. Dropping it removes the file, if it is still the one that was written here.
pub(crate) struct PictureFile {
    path: PathBuf,
    format: Format,
    /// The file, once there is one: what must still be in its place before the place is touched again. It stays open,
    /// so that no other file gets its number.
    written: Option<File>,
}

impl PictureFile {
    /// A picture that will be written to `path`. Says now what can be known before there is a code: nothing is left
    /// behind.
    ///
    /// # Errors
    /// `usage` if the ending is none of ours, something is there already, or there is no such folder; `storage` if the
    /// folder cannot be written to.
    pub(crate) fn prepare(path: &Path) -> Result<PictureFile, Error> {
        let format = format_of(path)?;
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(exists(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_write(path, &error)),
        }
        let picture = PictureFile { path: path.to_owned(), format, written: None };
        picture.temporary().map_err(|error| cannot_write(path, &error))?;
        Ok(picture)
    }

    /// Writes the picture of `text`, or replaces the one that was written here before. Whoever looks sees a whole
    /// picture at any time.
    ///
    /// # Errors
    /// `usage` if something else has taken the place, `storage` if it cannot be written.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Error> {
        let no_symbol = || Error::because(Cause::Internal, "the QR text is too long for a QR");
        let bytes = image::bytes(text, self.format).ok_or_else(no_symbol)?;
        let failed = |error: &io::Error| cannot_write(&self.path, error);
        let mut temporary = self.temporary().map_err(|error| failed(&error))?;
        temporary.write_all(&bytes).map_err(|error| failed(&error))?;
        let put = match self.written {
            // A rename that replaces nothing: a link in the place is something, too.
            None => temporary.persist_noclobber(&self.path),
            Some(_) if !self.is_in_place() => return Err(exists(&self.path)),
            Some(_) => temporary.persist(&self.path),
        };
        self.written = Some(put.map_err(|error| failed(&error.error))?);
        Ok(())
    }

    /// Leaves the file where it is: somebody else goes on waiting under its code.
    pub(crate) fn keep(mut self) {
        self.written = None;
    }

    /// A new file in the same folder, mode 0600, that goes away by itself unless it is put in place.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::Builder::new().prefix(".handfast-qr-").tempfile_in(folder)
    }

    /// Whether what was written is still there under its name.
    fn is_in_place(&self) -> bool {
        let ours = self.written.as_ref().and_then(|file| file.metadata().ok());
        let there = fs::symlink_metadata(&self.path).ok();
        ours.is_some() && ours.as_ref().map(identity) == there.as_ref().map(identity)
    }
}

impl Drop for PictureFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // That it has gone meanwhile is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file it is, whatever it is called.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The format that the ending of a name asks for.
fn format_of(path: &Path) -> Result<Format, Error> {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    match ending.as_deref() {
        Some("png") => Ok(Format::Png),
        Some("svg") => Ok(Format::Svg),
        Some(_) | None => {
            let text = format!("{} ends neither with .png nor with .svg", path.display());
            Err(Error::because(Cause::Usage, text).with_hint("the ending says which kind of picture is written"))
        }
    }
}

fn exists(path: &Path) -> Error {
    Error::because(Cause::Usage, format!("{} exists already and is not written over", path.display()))
        .with_hint("name a file that does not exist, or remove this one")
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
    if is(&[io::ErrorKind::AlreadyExists]) {
        return exists(path);
    }
    let text = format!("the picture {} cannot be written: {error}", path.display());
    if is(&[io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]) {
        Error::because(Cause::Usage, text).with_hint("name a file in a folder that exists")
    } else {
        Error::because(Cause::Storage, text).with_hint("name a file in a folder of yours with free space")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const TEXT: &str = "HANDFAST:CEBAGBAFAYDQQCIKBMGA2DQPCAIREEYUCULBOGAZDINRYHI6D4QCCIRDEQSSMJZIFEVC";

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("code.png");
        (folder, path)
    }

    fn names(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).expect("a folder").count()
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_goes_with_the_code() {
        let (folder, path) = folder();
        let mut picture = PictureFile::prepare(&path).expect("it can be written");
        assert_eq!(names(&folder), 0, "there is no code yet");
        picture.write(TEXT).expect("written");
        let metadata = fs::symlink_metadata(&path).expect("there");
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.is_file()), (0o600, true));
        drop(picture);
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn a_second_writing_replaces_the_first_in_one_step() {
        let (folder, path) = folder();
        let mut picture = PictureFile::prepare(&path).expect("it can be written");
        picture.write(TEXT).expect("written");
        let first = File::open(&path).expect("there");
        picture.write(&TEXT.replace("CEB", "CEC")).expect("replaced");
        assert_ne!(
            first.metadata().expect("open").ino(),
            fs::metadata(&path).expect("there").ino(),
            "who had it open still sees the whole old one"
        );
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&folder), 1, "nothing lies beside it");
        drop(picture);
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn nothing_that_exists_is_written_over_or_through_also_when_it_comes_late() {
        let (folder, path) = folder();
        let elsewhere = folder.path().join("elsewhere");
        let mut late = PictureFile::prepare(&path).expect("it can be written");
        fs::write(&path, "a letter").expect("written");
        for error in [PictureFile::prepare(&path).err(), late.write(TEXT).err()] {
            assert_eq!(error.expect("refused").cause, Cause::Usage);
        }
        drop(late);
        assert_eq!(fs::read(&path).expect("there"), b"a letter");
        fs::remove_file(&path).expect("removed");
        // A link to nothing would make a file at its end.
        let mut late = PictureFile::prepare(&path).expect("it can be written");
        symlink(&elsewhere, &path).expect("a link");
        for error in [PictureFile::prepare(&path).err(), late.write(TEXT).err()] {
            assert_eq!(error.expect("refused").cause, Cause::Usage);
        }
        drop(late);
        assert!(!elsewhere.exists() && fs::symlink_metadata(&path).is_ok());
    }

    #[test]
    fn what_has_taken_the_place_of_the_picture_is_left_alone() {
        let (_folder, path) = folder();
        let mut picture = PictureFile::prepare(&path).expect("it can be written");
        picture.write(TEXT).expect("written");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "a letter").expect("written");
        assert_eq!(picture.write(TEXT).expect_err("refused").cause, Cause::Usage);
        drop(picture);
        assert_eq!(fs::read(&path).expect("there"), b"a letter");
    }

    #[test]
    fn a_kept_file_stays() {
        let (_folder, path) = folder();
        let mut picture = PictureFile::prepare(&path).expect("it can be written");
        picture.write(TEXT).expect("written");
        picture.keep();
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_written_is_said_before_there_is_a_code() {
        let (folder, path) = folder();
        let cause = |path: &Path| PictureFile::prepare(path).err().map(|error| error.cause);
        assert_eq!(cause(&folder.path().join("code.jpg")), Some(Cause::Usage));
        assert_eq!(cause(&folder.path().join("png")), Some(Cause::Usage));
        assert_eq!(cause(&folder.path().join("nowhere/code.png")), Some(Cause::Usage));
        fs::write(&path, "").expect("written");
        assert_eq!(cause(&path.join("code.png")), Some(Cause::Usage), "a file is no folder");
        assert_eq!(cause(&folder.path().join("CODE.SVG")), None);
    }

    #[test]
    fn a_full_disk_is_storage_and_a_missing_folder_is_usage() {
        let cause = |kind: io::ErrorKind| cannot_write(Path::new("code.png"), &kind.into()).cause;
        assert_eq!(cause(io::ErrorKind::StorageFull), Cause::Storage);
        assert_eq!(cause(io::ErrorKind::PermissionDenied), Cause::Storage);
        assert_eq!(cause(io::ErrorKind::NotFound), Cause::Usage);
    }
}
