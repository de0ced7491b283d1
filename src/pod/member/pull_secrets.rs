//! Credentials for registries that a pod brings along.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value};

use crate::pod::manifest::Manifest;

/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const CONFIG: &str = ".dockerconfigjson";
/// The same without the outer object, of the type `kubernetes.io/dockercfg`.
const OLD_CONFIG: &str = ".dockercfg";

/// The credentials of `imagePullSecrets`, each as the content of a file of them, and the names of
/// those that are not there or hold none.
#[must_use]
pub fn pull_secrets(manifest: &Manifest) -> (Vec<Value>, Vec<String>) {
    let spec = manifest.pod.spec.as_ref();
    let names = spec.and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for reference in names {
        match manifest.objects.secrets.get(&reference.name).map(credentials) {
            Some(Ok(credentials)) => found.push(credentials),
            Some(Err(why)) => missing.push(format!("{} {why}", reference.name)),
            None => missing.push(reference.name.clone()),
        }
    }
    (found, missing)
}

/// What a Secret holds.
fn credentials(secret: &Secret) -> Result<Value, String> {
    let of = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let object = |key: &str, text: &[u8]| match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("with a {key} that is no JSON object")),
        // What was read is a secret: not even where it is wrong is told.
        Err(_) => Err(format!("with a {key} that is no JSON")),
    };
    if let Some(text) = of(CONFIG) {
        object(CONFIG, &text.0).map(Value::Object)
    } else if let Some(text) = of(OLD_CONFIG) {
        let entries = Value::Object(object(OLD_CONFIG, &text.0)?);
        Ok(Value::Object(Map::from_iter([("auths".to_owned(), entries)])))
    } else {
        Err(format!("without {CONFIG} and {OLD_CONFIG}"))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(key: &str, text: &str) -> Secret {
        let data = [(key.to_owned(), ByteString(text.into()))].into();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn both_types_are_a_file_of_credentials() {
        let entries = json!({"r.example": {"auth": "dTpw"}});
        let expected = json!({"auths": entries});
        assert_eq!(credentials(&secret(CONFIG, &expected.to_string())), Ok(expected.clone()));
        assert_eq!(credentials(&secret(OLD_CONFIG, &entries.to_string())), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (secret, word) in [
            (Secret::default(), "without"),
            (secret("password", "x"), "without"),
            (secret(CONFIG, "hidden"), ".dockerconfigjson that is no JSON"),
            (secret(OLD_CONFIG, "[\"hidden\"]"), "that is no JSON object"),
        ] {
            let why = credentials(&secret).unwrap_err();
            assert!(why.contains(word) && !why.contains("hidden"), "{why}");
        }
    }
}
