//! The table of every field of every kind of object that a manifest can hold: what its value
//! must be, and what carob makes of it.
//!
//! It drives strict decoding, `pod explain`, docs/pods.md and the list of ignored fields. A new
//! field is a new row. What decides over security is honoured or refused, never ignored.

mod cluster;
mod container;
mod object;
mod pod;
mod rows;
mod source;
mod storage;

use k8s_openapi::api::core::v1::Pod;

pub(super) use object::{CONFIG_MAP, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, SECRET};
pub use rows::{Row, kinds, rows, types};

/// A type of objects.
#[derive(Debug)]
pub struct Object {
    /// Its name in the API.
    pub name: &'static str,
    /// Its fields in alphabetical order, but for `apiVersion` and `kind`.
    pub fields: &'static [Field],
}

/// A field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// Whether there must be one.
    pub required: bool,
    /// What carob makes of it.
    pub support: Support,
    /// A sentence: what the field does, or why it is refused or ignored.
    pub about: &'static str,
}

/// What carob makes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what it does in a cluster.
    Honoured,
    /// A manifest with it is invalid.
    Refused,
    /// It is checked and has no effect.
    Ignored,
}

/// What a value must be.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// Any string.
    Text,
    /// A lowercase RFC 1123 label.
    Label,
    /// A lowercase RFC 1123 subdomain.
    Subdomain,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A number of 32 bits.
    Int32(Limit),
    /// A number of 64 bits.
    Int64(Limit),
    /// A number with a suffix: `100m`, `64Mi`.
    Quantity,
    /// The number or the name of a port.
    Port,
    /// RFC 3339.
    Time,
    /// Base64.
    Bytes,
    /// An object with these fields.
    Object(&'static Object),
    /// Any number of values.
    List(&'static Kind),
    /// Values by names of the author's choice.
    Map(&'static Kind),
    /// An object of this type, whose fields are not looked at because none is honoured.
    Opaque(&'static str),
}

/// Which numbers are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// All that fit.
    Any,
    /// From 0.
    NotNegative,
    /// 1 to 65535.
    Port,
    /// 0 to 2147483647: a user or group.
    Id,
    /// 1 to 2147483647.
    Deadline,
    /// 0 to 0777: permissions of a file.
    Mode,
}

/// Writes objects down as rows of `support "field" kind, "sentence";`.
macro_rules! objects {
    (@ required) => { (true, $crate::pod::manifest::support::Support::Honoured) };
    (@ honoured) => { (false, $crate::pod::manifest::support::Support::Honoured) };
    (@ refused) => { (false, $crate::pod::manifest::support::Support::Refused) };
    (@ ignored) => { (false, $crate::pod::manifest::support::Support::Ignored) };
    ($($constant:ident $name:literal {
        $($support:ident $field:literal $kind:expr, $about:expr;)*
    })*) => {
        $(pub(in crate::pod::manifest) static $constant: $crate::pod::manifest::support::Object =
            $crate::pod::manifest::support::Object {
                name: $name,
                fields: &[$($crate::pod::manifest::support::Field {
                    name: $field,
                    kind: $kind,
                    required: $crate::pod::manifest::support::objects!(@ $support).0,
                    support: $crate::pod::manifest::support::objects!(@ $support).1,
                    about: $about,
                }),*],
            };)*
    };
}
use objects;

const TEXTS: Kind = Kind::List(&Kind::Text);
const TEXT_MAP: Kind = Kind::Map(&Kind::Text);
const QUANTITIES: Kind = Kind::Map(&Kind::Quantity);
/// Why what only a cluster could do is ignored.
const CLUSTER: &str = "Placement in a cluster; the pod runs on this machine.";

/// `kind: Pod`.
#[must_use]
pub fn pod() -> &'static Object {
    &POD
}

/// `spec` of a pod.
#[must_use]
pub fn pod_spec() -> &'static Object {
    &pod::POD_SPEC
}

impl Object {
    /// The row of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The row of a path such as `spec.containers.ports`, without indices.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&'static Field> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let field = self.field(first)?;
        match rest {
            None => Some(field),
            Some(rest) => field.kind.object()?.find(rest),
        }
    }
}

impl Kind {
    /// The type of the objects that it is, or is a list or map of.
    #[must_use]
    pub fn object(&self) -> Option<&'static Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::List(item) | Self::Map(item) => item.object(),
            _ => None,
        }
    }

    /// How kubectl explain writes the type: `[]Container`, `map[string]string`.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Bool => "boolean".into(),
            Self::Text | Self::Label | Self::Subdomain | Self::Words(_) | Self::Time => {
                "string".into()
            }
            Self::Bytes => "base64".into(),
            Self::Int32(_) | Self::Int64(_) => "integer".into(),
            Self::Quantity => "Quantity".into(),
            Self::Port => "IntOrString".into(),
            Self::Object(object) => object.name.into(),
            Self::Opaque(name) => (*name).into(),
            Self::List(item) => format!("[]{}", item.type_name()),
            Self::Map(item) => format!("map[string]{}", item.type_name()),
        }
    }
}

impl Support {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
        }
    }
}

/// What the API fills in where nothing was asked for, in fields that are ignored here.
const IGNORED_DEFAULTS: [(&str, &str); 1] = [("schedulerName", "default-scheduler")];

/// The paths of all fields of a pod that are accepted and have no effect here.
///
/// Left out is what asks for nothing: empty values, `false`, what the API fills in by itself.
#[must_use]
pub fn ignored(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(serde_json::Value::Object(value)) = serde_json::to_value(pod) {
        ignored_below(&POD, &value, "", &mut found);
    }
    found
}

fn ignored_below(
    object: &Object,
    value: &serde_json::Map<String, serde_json::Value>,
    path: &str,
    found: &mut Vec<String>,
) {
    for (name, value) in value {
        let Some(field) = object.field(name) else { continue };
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (field.support, field.kind.object(), value) {
            (Support::Ignored, _, value) if !asks_for_nothing(name, value) => found.push(path),
            (Support::Honoured, Some(object), serde_json::Value::Object(value)) => {
                ignored_below(object, value, &path, found);
            }
            (Support::Honoured, Some(object), serde_json::Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let serde_json::Value::Object(value) = item {
                        ignored_below(object, value, &format!("{path}[{index}]"), found);
                    }
                }
            }
            _ => {}
        }
    }
}

fn asks_for_nothing(name: &str, value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Bool(value) => !value || name == "enableServiceLinks",
        serde_json::Value::String(text) => {
            text.is_empty() || IGNORED_DEFAULTS.contains(&(name, text))
        }
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        serde_json::Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
