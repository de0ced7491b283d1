//! tmp
use super::manifest::*;
use crate::error::*;
use std::path::PathBuf;
pub enum Input {
    P(PathBuf),
}
impl From<PathBuf> for Input {
    fn from(p: PathBuf) -> Self {
        Input::P(p)
    }
}
pub fn load(i: &[Input]) -> Result<Manifest> {
    let Input::P(p) = &i[0];
    let t = std::fs::read(p).os("read", || p.display())?;
    let mut pod: k8s_openapi::api::core::v1::Pod =
        serde_json::from_slice(&t).map_err(|e| Error::Invalid(e.to_string()))?;
    pod.metadata.namespace.get_or_insert("default".into());
    pod.metadata.uid.get_or_insert(uuid::Uuid::new_v4().to_string());
    Ok(Manifest { pod, objects: Objects::default() })
}
pub fn ignored(_: &k8s_openapi::api::core::v1::Pod) -> Vec<String> {
    vec![]
}
