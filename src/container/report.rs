//! What `state` and `list` tell of containers.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use serde::Serialize;

use super::state::{State, Status};
use super::users::Users;
use super::{ContainerId, Runtime, store};
use crate::cgroup::WrittenFreezer;
use crate::error::{Error, Result};

/// How many containers a thread must have to look at, to be worth its start; and how many threads.
const WORTH_A_THREAD: usize = 64;
const LIST_THREADS: usize = 4;

/// What `state` prints, and `list` for each container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// Of the configuration.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Init's; 0 when stopped.
    pub pid: i32,
    /// One of the words of [`Status`].
    pub status: String,
    /// Directory of the configuration.
    pub bundle: PathBuf,
    /// The root filesystem on the host.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// Of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who made the container; its number if it has none.
    pub owner: String,
}

impl Runtime {
    /// Reports one container.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn state(&self, id: &str) -> Result<StateReport> {
        // The shape of runc has no owner here.
        self.report(id, |_uid| String::new())
    }

    /// Reports all containers, sorted by id. One that cannot be read is an error in its place.
    ///
    /// # Errors
    /// [`Error::Os`] if the state root cannot be read.
    pub fn list(&self) -> Result<Vec<Result<StateReport>>> {
        let ids = self.ids()?;
        let users = Users::read();
        let owner = |uid: u32| users.name(uid).unwrap_or_else(|| uid.to_string());
        let reports = &|ids: &[String]| -> Vec<_> {
            let reports = ids.iter().map(|id| self.report(id, owner));
            // Deleted between the listing and the look: not an error.
            reports.filter(|report| !matches!(report, Err(Error::NotFound { .. }))).collect()
        };
        if ids.len() < WORTH_A_THREAD {
            return Ok(reports(&ids));
        }
        let threads = thread::available_parallelism().map_or(1, usize::from).min(LIST_THREADS);
        let (first, others) = ids.split_at(ids.len().div_ceil(threads));
        Ok(thread::scope(|scope| {
            let parts: Vec<_> = others
                .chunks(first.len())
                .map(|part| {
                    (part, thread::Builder::new().spawn_scoped(scope, move || reports(part)))
                })
                .collect();
            let mut all = reports(first);
            for (part, thread) in parts {
                // Where no more processes are allowed, this one does it all.
                all.extend(thread.map_or_else(
                    |_no_thread| reports(part),
                    |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                ));
            }
            all
        }))
    }

    /// Opens and copies no more than it has to: there may be thousands.
    fn report(&self, id: &str, name: impl FnOnce(u32) -> String) -> Result<StateReport> {
        let dir = self.path_of(&ContainerId::new(id)?);
        let missing = || Error::NotFound { id: id.to_owned() };
        let text = store::read_state_text(&dir)?.ok_or_else(missing)?;
        let state: State<WrittenFreezer> = store::parse_state(&dir, &text)?;
        let status = state.status(&dir, WrittenFreezer::is_frozen)?;
        Ok(StateReport {
            oci_version: state.oci_version,
            id: state.id.to_string(),
            pid: if status == Status::Stopped { 0 } else { state.pid },
            status: status.to_string(),
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            annotations: state.annotations,
            owner: name(state.owner_uid),
        })
    }
}
