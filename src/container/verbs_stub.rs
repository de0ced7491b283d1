//! The verbs' signatures, until the verbs are there.
#![allow(clippy::missing_errors_doc, reason = "replaced by the real ones")]
#![allow(missing_docs, reason = "replaced by the real ones")]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Serialize;

use super::{CreateOptions, ExecOptions, RunOptions, Runtime};
use crate::{
    error::{Error, Result},
    sys::signal::Signal,
};

/// Whom `kill` signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillTarget {
    /// The container's init process.
    Init,
    /// `--all`: every process of the container; a stopped container is then no error.
    All,
}

/// How `delete` treats a container that is not stopped, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Both are errors.
    No,
    /// `--force`: kill it first; nothing to delete is success.
    Yes,
}

/// What `state` prints, and `list` per container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

/// What `events` reports.
#[derive(Debug, Clone)]
pub enum Event {
    /// Once per interval.
    Stats(serde_json::Value),
    /// A process of the container was killed for its memory use.
    Oom,
}

fn later<T>() -> Result<T> {
    Err(Error::Unsupported("not built yet".into()))
}

impl Runtime {
    pub fn create(&self, _: &CreateOptions) -> Result<()> {
        later()
    }
    pub fn run(&self, _: &RunOptions) -> Result<i32> {
        later()
    }
    pub fn start(&self, _: &str) -> Result<()> {
        later()
    }
    pub fn exec(&self, _: &ExecOptions) -> Result<i32> {
        later()
    }
    pub fn kill(&self, _: &str, _: Signal, _: KillTarget) -> Result<()> {
        later()
    }
    pub fn delete(&self, _: &str, _: Force) -> Result<()> {
        later()
    }
    pub fn state(&self, _: &str) -> Result<StateReport> {
        later()
    }
    pub fn list(&self) -> Result<Vec<Result<StateReport>>> {
        later()
    }
    pub fn processes(&self, _: &str) -> Result<Vec<i32>> {
        later()
    }
    pub fn pause(&self, _: &str) -> Result<()> {
        later()
    }
    pub fn resume(&self, _: &str) -> Result<()> {
        later()
    }
    pub fn update(&self, _: &str, _: &oci_spec::runtime::LinuxResources) -> Result<()> {
        later()
    }
    pub fn stats(&self, _: &str) -> Result<serde_json::Value> {
        later()
    }
    pub fn events(
        &self,
        _: &str,
        _: Duration,
        _: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        later()
    }
}
