use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::*;

/// The JSON schema of a type, with all that it refers to beside it.
fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<T>().to_value()
}

/// What a property refers to.
fn reference(property: &Value) -> Option<&str> {
    let direct = property.get("$ref").or_else(|| property.pointer("/allOf/0/$ref"));
    direct.and_then(Value::as_str).and_then(|path| path.rsplit('/').next())
}

/// The type of a property in the words of the table.
fn type_of(property: &Value, definitions: &Value) -> String {
    if let Some(name) = reference(property) {
        let definition = &definitions[name];
        return match name.rsplit('.').next().unwrap() {
            "Time" | "MicroTime" => "string".into(),
            simple @ ("Quantity" | "IntOrString") => simple.into(),
            name if definition["type"] == "object" => name.into(),
            name => panic!("{name}"),
        };
    }
    match property["type"].as_str().unwrap() {
        "array" => format!("[]{}", type_of(&property["items"], definitions)),
        "object" => {
            format!("map[string]{}", type_of(&property["additionalProperties"], definitions))
        }
        "string" if property["format"] == "byte" => "base64".into(),
        simple => simple.into(),
    }
}

fn compare(object: &Object, properties: &Value, definitions: &Value, seen: &mut BTreeSet<String>) {
    if !seen.insert(object.name.into()) {
        return;
    }
    let properties = properties.as_object().unwrap();
    let api: Vec<_> =
        properties.keys().filter(|name| !["apiVersion", "kind"].contains(&name.as_str())).collect();
    let table: Vec<_> = object.fields.iter().map(|field| field.name).collect();
    // `apiVersion` and `kind` are fields of references, too.
    let table: Vec<_> =
        table.into_iter().filter(|name| !["apiVersion", "kind"].contains(name)).collect();
    let mut api: Vec<&str> = api.iter().map(|name| name.as_str()).collect();
    api.sort_unstable();
    assert_eq!(table, api, "the fields of {}", object.name);
    for field in object.fields {
        let property = &properties[field.name];
        let expected = type_of(property, definitions);
        assert_eq!(field.kind.type_name(), expected, "{}.{}", object.name, field.name);
        if let (Kind::Int32(_), format) | (Kind::Int64(_), format) =
            (&field.kind, &property["format"])
        {
            let wide = matches!(field.kind, Kind::Int64(_));
            assert_eq!(format, if wide { "int64" } else { "int32" }, "{}", field.name);
        }
        if let Some(inner) = field.kind.object() {
            let mut inside = property;
            while reference(inside).is_none() {
                inside = inside.get("items").unwrap_or_else(|| &inside["additionalProperties"]);
            }
            let definition = &definitions[reference(inside).unwrap()];
            compare(inner, &definition["properties"], definitions, seen);
        }
    }
}

#[test]
fn no_field_of_the_api_is_missing() {
    let mut seen = BTreeSet::new();
    for (object, schema) in [
        (&object::POD, schema::<Pod>()),
        (&CONFIG_MAP, schema::<ConfigMap>()),
        (&SECRET, schema::<Secret>()),
        (&PERSISTENT_VOLUME_CLAIM, schema::<PersistentVolumeClaim>()),
        (&PERSISTENT_VOLUME, schema::<PersistentVolume>()),
    ] {
        compare(object, &schema["properties"], &schema["definitions"], &mut seen);
    }
    assert!(seen.contains("HTTPHeader") && seen.contains("ObjectReference"), "{seen:?}");
}

/// All fields that decide what a container may do to the machine, and what is seen of it.
#[test]
fn nothing_that_decides_over_security_is_ignored() {
    for path in [
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "runtimeClassName",
        "shareProcessNamespace",
        "securityContext",
        "containers.securityContext",
        "containers.resources.limits",
        "containers.volumeMounts.readOnly",
        "containers.volumeMounts.recursiveReadOnly",
        "containers.volumeDevices",
        "volumes.hostPath",
    ] {
        let field = pod_spec().find(path).unwrap();
        assert_ne!(field.support, Support::Ignored, "{path}");
        for inner in field.kind.object().into_iter().flat_map(|object| object.fields) {
            assert_ne!(inner.support, Support::Ignored, "{path}.{}", inner.name);
        }
    }
}

#[test]
fn ignored_fields_are_named_unless_they_ask_for_nothing() {
    let pod = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "finalizers": ["x"]},
        "spec": {
            "schedulerName": "default-scheduler",
            "enableServiceLinks": true,
            "automountServiceAccountToken": false,
            "tolerations": [],
            "nodeSelector": {"a": "b"},
            "priority": 0,
            "containers": [
                {"name": "a", "image": "b"},
                {"name": "c", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "x"}]},
            ],
        },
    }));
    let found = ignored(&pod.unwrap());
    assert_eq!(
        found,
        [
            "metadata.finalizers",
            "spec.containers[1].resizePolicy",
            "spec.nodeSelector",
            "spec.priority"
        ]
    );
}

#[test]
fn every_field_says_what_becomes_of_it() {
    for field in pod_spec().fields {
        assert!(!field.about.is_empty(), "{}", field.name);
    }
}
