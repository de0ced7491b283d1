//! From texts to a [`Manifest`]: decode, fill in, check, put together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::decode::decode;
use super::document::{Document, documents};
use super::input::Text;
use super::problem::Problems;
use super::rules::{self, Given};
use super::{Manifest, Objects, defaults, images};
use crate::error::{Error, Result};
use crate::pod::volume::source::bind;

const DEFAULT_NAMESPACE: &str = "default";
/// Letters that make no words. Source: apimachinery `pkg/util/rand`.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest start of a generated name.
const MAX_GENERATED: usize = 58;

/// Makes a manifest of texts.
pub(super) fn texts(texts: &[Text], edit: &dyn Fn(&mut Pod)) -> Result<Manifest> {
    let mut lines = Vec::new();
    let all: Vec<Document> = texts.iter().flat_map(|text| documents(text, &mut lines)).collect();
    let pods: Vec<&Document> = all.iter().filter(|document| document.kind == "Pod").collect();
    match pods[..] {
        [] if lines.is_empty() => lines.push(match texts {
            [] => "no manifest given".into(),
            [text] => format!("{}: has no Pod", text.file),
            _ => "the manifests have no Pod".into(),
        }),
        [] | [_] => {}
        [..] => {
            let places = pods.iter().map(|pod| pod.place()).collect::<Vec<_>>().join(", ");
            lines.push(format!("a manifest must have exactly one Pod, there are more: {places}"));
        }
    }
    let namespace = pods.first().and_then(|pod| pod.namespace()).unwrap_or(DEFAULT_NAMESPACE);
    let objects = Objects::default();
    let mut loader = Loader { namespace, lines, objects, pod: None, edit };
    let given = loader.given(&all);
    for document in &all {
        loader.document(document, &given);
    }
    if loader.lines.is_empty() {
        loader.claims(&all);
    }
    match loader.pod {
        Some(pod) if loader.lines.is_empty() => {
            let left_out = all.iter().flat_map(|document| document.left_out.clone()).collect();
            Ok(Manifest { pod, objects: loader.objects, left_out })
        }
        _ => Err(Error::Invalid(loader.lines.join("\n"))),
    }
}

struct Loader<'a> {
    namespace: &'a str,
    lines: Vec<String>,
    objects: Objects,
    pod: Option<Pod>,
    edit: &'a dyn Fn(&mut Pod),
}

impl Loader<'_> {
    /// Whether the pod can see an object: volumes are in no namespace.
    fn is_here(&self, document: &Document) -> bool {
        let namespace = document.namespace().unwrap_or(self.namespace);
        document.kind == "PersistentVolume" || namespace == self.namespace
    }

    /// The names of all objects; those given twice are reported.
    fn given(&mut self, all: &[Document]) -> Given {
        let mut given = Given::default();
        let mut seen: BTreeMap<_, &Document> = BTreeMap::new();
        for document in all {
            let Some(name) = document.name() else { continue };
            let here = self.is_here(document);
            let names = if here { &mut given.names } else { &mut given.elsewhere };
            names.insert((document.kind, name.to_owned()));
            let key = (document.kind, document.namespace().filter(|_| !here), name);
            match seen.get(&key) {
                Some(first) if document.kind != "Pod" => self.lines.push(format!(
                    "{}: {} {name:?} is given twice, first at {}",
                    document.place(),
                    document.kind,
                    first.place()
                )),
                _ => {
                    seen.insert(key, document);
                }
            }
        }
        given
    }

    fn document(&mut self, document: &Document, given: &Given) {
        let mut problems = Problems::default();
        match document.kind {
            "Pod" => self.pod = self.read_pod(document, given, &mut problems),
            "ConfigMap" => {
                let object = self.read(document, &mut problems, rules::config_map);
                self.objects.config_maps.extend(object);
            }
            "Secret" => {
                let object = self.read(document, &mut problems, |secret: &Secret, problems| {
                    rules::secret(&merged(secret.clone()), problems);
                });
                let object = object.map(|(name, secret)| (name, merged(secret)));
                self.objects.secrets.extend(object);
            }
            "PersistentVolumeClaim" => {
                let object = self.read(document, &mut problems, rules::claim);
                self.objects.claims.extend(object);
            }
            _ => {
                let object = self.read(document, &mut problems, rules::volume);
                self.objects.volumes.extend(object);
            }
        }
        if !problems.is_empty() {
            let name = document.name().unwrap_or_default();
            let report = problems.report(&document.file, &document.node, document.kind, name);
            self.lines.extend(report);
        }
    }

    fn read_pod(&self, document: &Document, given: &Given, problems: &mut Problems) -> Option<Pod> {
        let mut pod: Pod = decoded(document, problems)?;
        identify(&mut pod.metadata, self.namespace);
        (self.edit)(&mut pod);
        defaults::pod(&mut pod);
        rules::pod(&pod, problems);
        if let Some(spec) = &mut pod.spec {
            images::resolve(spec, document.dir.as_deref(), problems);
            rules::references(spec, given, problems);
        }
        Some(pod)
    }

    /// An object with its name, unless the pod cannot see it.
    fn read<T: Named + DeserializeOwned>(
        &self,
        document: &Document,
        problems: &mut Problems,
        check: impl Fn(&T, &mut Problems),
    ) -> Option<(String, T)> {
        let mut object: T = decoded(document, problems)?;
        check(&object, problems);
        if !self.is_here(document) {
            return None;
        }
        if document.kind != "PersistentVolume" {
            object.metadata().namespace = Some(self.namespace.to_owned());
        }
        let name = object.metadata().name.clone()?;
        Some((name, object))
    }
}

impl Loader<'_> {
    /// Every claim of the pod must have a volume that was given.
    fn claims(&mut self, all: &[Document]) {
        let objects = &self.objects;
        let bound = bind(&objects.claims, &objects.volumes);
        let volumes = self.pod.iter().filter_map(|pod| pod.spec.as_ref()?.volumes.as_ref());
        let sources = volumes.flatten().filter_map(|v| v.persistent_volume_claim.as_ref());
        let names: BTreeSet<&str> = sources.map(|source| source.claim_name.as_str()).collect();
        for name in names {
            let volume = bound.get(name);
            if volume.is_some_and(|volume| objects.volumes.contains_key(*volume)) {
                continue;
            }
            let reason = match volume {
                Some(volume) => format!("PersistentVolume {volume:?} not found"),
                None => "no PersistentVolume that is free has its class, modes and size".into(),
            };
            let document = all.iter().find(|document| {
                document.kind == "PersistentVolumeClaim" && document.name() == Some(name)
            });
            let place = document.map(Document::place).unwrap_or_default();
            self.lines.push(format!(
                "{place}: PersistentVolumeClaim {name:?} is not bound: {reason}: give one next to it"
            ));
        }
    }
}

/// `None` if a value of another type was left out: nothing else can be said then.
fn decoded<T: DeserializeOwned>(document: &Document, problems: &mut Problems) -> Option<T> {
    let json = decode(document.object, &document.node, problems);
    if problems.has_type_errors() {
        return None;
    }
    match serde_json::from_value(json) {
        Ok(object) => Some(object),
        Err(error) => {
            problems.mismatch("", "object", format_args!("{}: {error}", document.kind));
            None
        }
    }
}

/// What an API server would give to a new object.
fn identify(metadata: &mut ObjectMeta, namespace: &str) {
    let random = Uuid::new_v4();
    metadata.namespace = Some(namespace.to_owned());
    if let Some(start) = &metadata.generate_name
        && metadata.name.as_deref().unwrap_or_default().is_empty()
    {
        let start: String = start.chars().take(MAX_GENERATED).collect();
        let letters = random.as_bytes().iter().take(5);
        let letters = letters.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        metadata.name = Some(start + &letters.collect::<String>());
    }
    if metadata.uid.as_deref().unwrap_or_default().is_empty() {
        metadata.uid = Some(random.to_string());
    }
    let now = Timestamp::now();
    // The API knows whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    metadata.creation_timestamp.get_or_insert(Time(now));
}

/// `stringData` becomes a part of `data`.
fn merged(mut secret: Secret) -> Secret {
    if let Some(texts) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        let texts = texts.into_iter();
        data.extend(texts.map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes()))));
    }
    secret
}

/// Objects with metadata.
trait Named {
    fn metadata(&mut self) -> &mut ObjectMeta;
}

macro_rules! named {
    ($($kind:ty),*) => {
        $(impl Named for $kind {
            fn metadata(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })*
    };
}
named!(ConfigMap, Secret, PersistentVolumeClaim, PersistentVolume);

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
