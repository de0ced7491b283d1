//! Where manifests are read from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// Most that is read from all inputs together, bytes.
const MAX_SIZE: u64 = 16 << 20;
/// Which files of a directory count.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// A source of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, or a directory of which all `*.yaml`, `*.yml` and `*.json` are read.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<PathBuf> for Input {
    /// `-` is standard input.
    fn from(path: PathBuf) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::Path(path) }
    }
}

/// A text and what it is called in errors.
#[derive(Debug)]
pub(super) struct Text {
    /// The file.
    pub(super) file: String,
    /// The directory that it is in, absolute and without links; absent for standard input.
    pub(super) dir: Option<PathBuf>,
    /// Its content.
    pub(super) text: String,
}

/// Reads all inputs.
pub(super) fn read(inputs: &[Input]) -> Result<Vec<Text>> {
    let mut budget = MAX_SIZE;
    let mut texts = Vec::new();
    for input in inputs {
        match input {
            Input::Stdin => {
                texts.push(text("stdin".into(), None, io::stdin().lock(), &mut budget)?)
            }
            Input::Path(path) => {
                for file in files(path)? {
                    let name = file.display().to_string();
                    let reader = File::open(&file).os("open", || &name)?;
                    let dir = directory(&file).os("resolve", || &name)?;
                    texts.push(text(name, Some(dir), reader, &mut budget)?);
                }
            }
        }
    }
    Ok(texts)
}

/// The directory that a file is in; that of the name, if the file is a link.
fn directory(file: &Path) -> io::Result<PathBuf> {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.canonicalize(),
        _ => Path::new(".").canonicalize(),
    }
}

fn text(
    file: String,
    dir: Option<PathBuf>,
    reader: impl io::Read,
    budget: &mut u64,
) -> Result<Text> {
    let bytes = fd::read_bounded(reader, *budget, &file).map_err(|error| match error {
        Error::Invalid(_) => Error::Invalid(format!(
            "{file}: manifests must not be larger than {MAX_SIZE} bytes together"
        )),
        other => other,
    })?;
    *budget -= bytes.len() as u64;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::Invalid(format!("{file}: is not UTF-8: {error}")))?;
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(Text { file, dir, text })
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).os("open", || path.display())?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).os("read", || path.display())? {
        let file = entry.os("read", || path.display())?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        let known = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        if known && fs::metadata(&file).os("open", || file.display())?.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::Invalid(format!(
            "{}: has no file with the extension .json, .yaml or .yml",
            path.display()
        )));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed in the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
            let dir = std::env::temp_dir().join(format!("carob-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            for (file, content) in files {
                fs::write(dir.join(file), content).unwrap();
            }
            Self(dir)
        }

        fn read(&self, file: &str) -> Result<Vec<Text>> {
            read(&[Input::from(self.0.join(file))])
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_directory_stands_for_its_manifests() {
        let bom = "\u{feff}c".as_bytes();
        let dir =
            Dir::new("dir", &[("b.yml", b"b"), ("a.json", b"a"), ("c.yaml", bom), ("d", b"")]);
        fs::create_dir(dir.0.join("e.yaml")).unwrap();
        let texts = dir.read("").unwrap();
        assert_eq!(
            texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert!(texts[0].file.ends_with("/a.json"));
        let none = dir.read("e.yaml").unwrap_err().to_string();
        assert!(none.ends_with("has no file with the extension .json, .yaml or .yml"), "{none}");
        assert_eq!(Input::from(PathBuf::from("-")), Input::Stdin);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let dir = Dir::new("text", &[("a", b"\xff"), ("b", b"")]);
        assert!(dir.read("a").unwrap_err().to_string().contains("a: is not UTF-8"));
        assert!(dir.read("x").unwrap_err().errno().is_some());
        let big = File::options().write(true).open(dir.0.join("b")).unwrap();
        big.set_len(MAX_SIZE + 1).unwrap();
        let refused = dir.read("b").unwrap_err().to_string();
        assert!(
            refused.contains("b: manifests must not be larger than 16777216 bytes"),
            "{refused}"
        );
    }
}
