//! STUB
use super::record::*;
use super::store::*;
use crate::container::Runtime;
use crate::error::Result;
use std::os::fd::OwnedFd;
pub struct Launch {
    pub spec: oci_spec::runtime::Spec,
    pub attempt: u32,
    pub resources: oci_spec::runtime::LinuxResources,
    pub ips: Vec<String>,
    pub user_namespace_base: Option<u32>,
    pub keep: [OwnedFd; 2],
}
pub fn start(_: &Runtime, _: &PodFile, _: Launch) -> Result<(SandboxRecord, OwnedFd)> {
    Err(crate::error::Error::Invalid("x".into()))
}
pub fn stop(_: &Runtime, _: &SandboxRecord, _: &PodDirs) -> Result<()> {
    Ok(())
}
pub fn clear(_: &PodDirs) -> Result<()> {
    Ok(())
}
