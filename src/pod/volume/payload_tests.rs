//! What files volumes of each kind have.

use super::super::source::{resolve, volumes};
use super::super::testing::Host;
use super::*;

fn files(host: &Host) -> Result<Vec<(String, String, u32)>, String> {
    let place = host.place();
    let volume = volumes(&place).next().unwrap();
    let files = payload(&place, &resolve(&place, volume)?.source)?;
    let text = |data: Vec<u8>| String::from_utf8(data).unwrap();
    Ok(files.into_iter().map(|(path, file)| (path, text(file.data), file.mode)).collect())
}

fn of(volume: &str) -> Result<Vec<(String, String, u32)>, String> {
    let mut host = Host::new(&format!(
        r#"{{"containers":[{{"name":"c"}}],"volumes":[{{"name":"v",{volume}}}]}}"#
    ));
    host.config_map("conf", &[("a", "1"), ("b", "2")]);
    host.secret("keys", &[("pass", "c2VjcmV0")]);
    files(&host)
}

fn rows(rows: &[(&str, &str, u32)]) -> Result<Vec<(String, String, u32)>, String> {
    Ok(rows.iter().map(|(path, text, mode)| ((*path).into(), (*text).into(), *mode)).collect())
}

#[test]
fn keys_of_objects() {
    let cases = [
        (r#""configMap":{"name":"conf"}"#, rows(&[("a", "1", 0o644), ("b", "2", 0o644)])),
        (
            r#""configMap":{"name":"conf","defaultMode":256,"items":[{"key":"b","path":"x/y"}]}"#,
            rows(&[("x/y", "2", 0o400)]),
        ),
        (
            r#""configMap":{"name":"conf","items":[{"key":"b","path":"y","mode":493}]}"#,
            rows(&[("y", "2", 0o755)]),
        ),
        (
            r#""configMap":{"name":"conf","items":[{"key":"z","path":"y"}]}"#,
            Err("configmap references non-existent config key: z".into()),
        ),
        (
            r#""configMap":{"name":"conf","optional":true,"items":[{"key":"z","path":"y"}]}"#,
            rows(&[]),
        ),
        (r#""configMap":{"name":"none"}"#, Err("configmap \"none\" not found".into())),
        (r#""configMap":{"name":"none","optional":true}"#, rows(&[])),
        (r#""secret":{"secretName":"keys"}"#, rows(&[("pass", "secret", 0o644)])),
        (r#""secret":{"secretName":"none"}"#, Err("secret \"none\" not found".into())),
        (
            r#""secret":{"secretName":"keys","items":[{"key":"z","path":"y"}]}"#,
            Err("references non-existent secret key: z".into()),
        ),
    ];
    for (volume, expected) in cases {
        assert_eq!(of(volume), expected, "{volume}");
    }
}

#[test]
fn files_of_other_kinds() {
    let cases = [
        (
            r#""downwardAPI":{"items":[{"path":"n/ame","fieldRef":{"fieldPath":"metadata.name"}},
                {"path":"l","mode":256,"fieldRef":{"fieldPath":"metadata.labels"}}]}"#,
            rows(&[("l", "app=\"w\"", 0o400), ("n/ame", "web", 0o644)]),
        ),
        (
            r#""downwardAPI":{"items":[{"path":"cpu",
                "resourceFieldRef":{"containerName":"c","resource":"limits.cpu"}}]}"#,
            rows(&[("cpu", "4", 0o644)]),
        ),
        (
            r#""downwardAPI":{"items":[{"path":"cpu",
                "resourceFieldRef":{"containerName":"x","resource":"limits.cpu"}}]}"#,
            Err("container x not found".into()),
        ),
        (
            r#""projected":{"defaultMode":288,"sources":[{"configMap":{"name":"conf"}},
                {"secret":{"name":"keys","items":[{"key":"pass","path":"a"}]}},
                {"configMap":{"name":"none","optional":true}}]}"#,
            rows(&[("a", "secret", 0o440), ("b", "2", 0o440)]),
        ),
        (
            r#""projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}"#,
            Err("serviceAccountToken needs a Kubernetes API server, there is none".into()),
        ),
        (r#""emptyDir":{}"#, rows(&[])),
        (
            r#""nfs":{"server":"s","path":"/"}"#,
            Err("this kind of volume is not supported by carob".into()),
        ),
        (
            r#""persistentVolumeClaim":{"claimName":"p"}"#,
            Err("error processing PVC ns/p: failed to fetch PVC from API server: \
             persistentvolumeclaims \"p\" not found"
                .into()),
        ),
    ];
    for (volume, expected) in cases {
        assert_eq!(of(volume), expected, "{volume}");
    }
}
