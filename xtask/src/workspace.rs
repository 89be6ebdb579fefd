//! Where the workspace is, which crates it has, and which text files belong to it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What holds nothing of ours: build output, version control (a file in a linked work tree), installed tools.
const NOT_OURS: [&str; 3] = ["target", ".git", "node_modules"];

/// Deeper than any folder of this project: a link that points back up would otherwise never end.
const MAX_DEPTH: usize = 16;

/// One member of the workspace.
pub(crate) struct Member {
    /// The folder, relative to the root, with `/` (`crates/proto`).
    pub(crate) dir: String,
    /// The parsed `Cargo.toml`.
    pub(crate) manifest: toml::Table,
}

/// A text file of the project.
pub(crate) struct TextFile {
    /// Path relative to the root, with `/`.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// The workspace this program was started in.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the workspace that holds the current folder.
    pub(crate) fn find() -> Result<Self> {
        let start = std::env::current_dir().context("no current folder")?;
        for dir in start.ancestors() {
            let manifest = dir.join("Cargo.toml");
            if manifest.is_file() && read_manifest(&manifest)?.contains_key("workspace") {
                return Ok(Self { root: dir.to_path_buf() });
            }
        }
        bail!("no workspace above {}", start.display())
    }

    /// A workspace at a known place.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads a text file by its path relative to the root.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// All members, in the order of the root manifest.
    pub(crate) fn members(&self) -> Result<Vec<Member>> {
        let root = read_manifest(&self.root.join("Cargo.toml"))?;
        let listed = root
            .get("workspace")
            .and_then(|workspace| workspace.get("members"))
            .and_then(toml::Value::as_array)
            .context("the root manifest lists no members")?;
        listed
            .iter()
            .map(|member| {
                let dir = member.as_str().context("a member that is no string")?.to_owned();
                let manifest = read_manifest(&self.root.join(&dir).join("Cargo.toml"))?;
                Ok(Member { dir, manifest })
            })
            .collect()
    }

    /// Every text file of the project, sorted by path. What is not UTF-8 is no text.
    pub(crate) fn text_files(&self) -> Result<Vec<TextFile>> {
        let mut files = Vec::new();
        collect(&self.root, "", 0, &mut files)?;
        files.sort_by(|a: &TextFile, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn read_manifest(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid", path.display()))
}

fn collect(dir: &Path, prefix: &str, depth: usize, files: &mut Vec<TextFile>) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("{} is more than {MAX_DEPTH} folders deep", dir.display());
    }
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &path, depth + 1, files)?;
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            files.push(TextFile { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_knows_its_members_and_its_files() {
        let workspace = Workspace::find().expect("tests run inside the workspace");
        let members = workspace.members().expect("the manifests are valid");
        assert!(members.iter().any(|member| member.dir == "xtask"));
        let files = workspace.text_files().expect("the files can be read");
        assert!(files.iter().any(|file| file.path == "xtask/src/workspace.rs"));
        assert!(files.iter().all(|file| !file.path.starts_with("target/")));
    }
}
