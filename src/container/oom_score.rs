//! `process.oomScoreAdj`, by inheritance: carob has the score while it clones the process.
//!
//! Not by the process's own file in `/proc`: that belongs to the host's root until the program
//! runs, since a process on its way into a container is not dumpable.

use std::fs::File;
use std::io::{Read, Seek, Write};

use crate::error::{Error, Result};
use crate::log;
use crate::sys::credentials;

const OWN: &str = "/proc/self/oom_score_adj";
const FIELD: &str = "process.oomScoreAdj";

/// The score that a process is to have, where it is not carob's own.
#[derive(Debug)]
pub(super) struct OomScore(Option<Change>);

#[derive(Debug)]
struct Change {
    file: File,
    own: String,
    wanted: String,
}

/// The children of this process get the score while this is held; a child never drops it.
#[derive(Debug)]
pub(super) struct Held<'a>(Option<&'a Change>);

impl OomScore {
    /// Opens what is needed. To be called while carob is still dumpable.
    pub(super) fn new(wanted: Option<i32>) -> Result<Self> {
        let Some(wanted) = wanted.map(|score| score.to_string()) else { return Ok(Self(None)) };
        let (file, own) = open().map_err(|e| Error::config(FIELD, format!("{wanted}: {e}")))?;
        // The same again may be refused: to lower the least that was ever set needs a capability.
        Ok(Self((own != wanted).then_some(Change { file, own, wanted })))
    }

    /// Takes the score. To lower it below the least that this process ever had takes
    /// CAP_SYS_RESOURCE on the host: who is not root there keeps its own, with a warning.
    pub(super) fn hold(&self) -> Result<Held<'_>> {
        let Some(change) = &self.0 else { return Ok(Held(None)) };
        match set(&change.file, &change.wanted) {
            Ok(()) => Ok(Held(Some(change))),
            Err(error) if !credentials::is_host_root() => {
                let Change { wanted, own, .. } = change;
                log::warn(format_args!("{FIELD}: {wanted}: {error}; it stays {own}"));
                Ok(Held(None))
            }
            Err(error) => {
                let wanted = &change.wanted;
                Err(Error::config(FIELD, format!("{wanted}: write {wanted:?} to {OWN}: {error}")))
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(Change { file, own, .. }) = self.0 else { return };
        if let Err(error) = set(file, own) {
            log::warn(format_args!("oom_score_adj of carob itself: {own}: {error}"));
        }
    }
}

fn open() -> std::io::Result<(File, String)> {
    let mut file = File::options().read(true).write(true).open(OWN)?;
    let mut own = String::new();
    file.read_to_string(&mut own)?;
    own.truncate(own.trim_end().len());
    Ok((file, own))
}

fn set(mut file: &File, score: &str) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(score.as_bytes())
}
