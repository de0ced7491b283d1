//! Tests of `oci::load` and `oci::mend`.

use serde_json::{Value, json};

use super::*;

fn minimal() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}]}
    })
}

/// `minimal` with the value at `pointer` replaced or added.
fn with(pointer: &str, new: Value) -> Vec<u8> {
    let mut config = minimal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), new);
    config.to_string().into_bytes()
}

fn load(raw: &[u8]) -> Result<LoadedSpec> {
    parse_spec(raw.to_vec())
}

#[test]
fn versions() {
    for good in ["1.0.0", "1.0.2-dev", "1.1.0-rc.1", "1.3.0", "1.3.7+dev", "1.2.1"] {
        assert!(load(&with("/ociVersion", json!(good))).is_ok(), "{good}");
    }
    for (bad, word) in [
        ("1.4.0", "not supported"),
        ("2.0.0", "not supported"),
        ("0.9.9", "not supported"),
        ("1.0", "not a version"),
        ("v1.0.0", "not a version"),
        ("1.0.0.0", "not a version"),
        ("1..0", "not a version"),
        ("1.+1.0", "not a version"),
        ("latest", "not a version"),
        ("", "missing"),
        ("1.99999999999999999999.0", "not a version"),
    ] {
        let text = load(&with("/ociVersion", json!(bad))).unwrap_err().to_string();
        assert!(text.starts_with("ociVersion: ") && text.contains(word), "{bad}: {text}");
        assert!(text.contains("1.0.0 to 1.3.x"), "{bad}: {text}");
    }
}

#[test]
fn wrong_types_are_named_by_path_and_value() {
    for (pointer, value, path, words) in [
        ("/hostname", json!(7), "hostname", "integer `7`, expected a string"),
        ("/mounts", json!({}), "mounts", "object, expected an array"),
        ("/process/args", json!("sh"), "process.args", "string \"sh\", expected an array"),
        ("/process/oomScoreAdj", json!(1u64 << 40), "process.oomScoreAdj", "-2147483648"),
        ("/process/user", json!({"uid": -1}), "process.user.uid", "0 to 4294967295"),
        ("/process/user", json!({"uid": 4294967296u64}), "process.user.uid", "4294967296"),
        ("/process/rlimits", json!([{"type": "RLIMIT_X"}]), "process.rlimits[0].type", "RLIMIT_X"),
        ("/process/capabilities", json!("x"), "process.capabilities", "expected an object"),
        ("/root", json!("rootfs"), "root", "expected an object"),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "warp"}]),
            "linux.namespaces[1].type",
            "`warp`, expected one of `mount`",
        ),
        ("/linux/cgroupsPath", json!(1), "linux.cgroupsPath", "expected a string"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_DANCE"}),
            "linux.seccomp.defaultAction",
            "SCMP_ACT_DANCE",
        ),
    ] {
        let text = load(&with(pointer, value)).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{path}: ")), "{pointer}: {text}");
        assert!(text.contains(words), "{pointer}: {text}");
        assert!(text.contains(" at line 1 column "), "{pointer}: {text}");
    }
}

#[test]
fn only_device_types_that_can_be_meant_are_offered() {
    let device = json!([{"type": "x", "path": "/d", "allow": true}]);
    for (linux, path, types) in [
        (json!({"devices": device}), "linux.devices[0].type", NODE_TYPES),
        (json!({"resources": {"devices": device}}), "linux.resources.devices[0].type", RULE_TYPES),
    ] {
        let text = load(&with("/linux", linux)).unwrap_err().to_string();
        let words = format!("{path}: unknown value `x`, expected one of {types} at");
        assert!(text.starts_with(&words), "{text}");
    }
}

#[test]
fn what_is_not_a_json_object() {
    for (raw, words) in [
        ("{", "not JSON: it ends too early, EOF while parsing an object at line 1 column 1"),
        ("[]", "is an array, must be a JSON object"),
        ("null", "expected an object"),
        ("\"x\"", "expected an object"),
        (" \n", "not JSON: it ends too early, EOF while parsing a value at line 2 column 0"),
        ("{\"root\": {\"path\": \"r", "not JSON: it ends too early, EOF while parsing a string"),
        ("{\"process\": {\"args\": [\"a\",]}}", "not JSON: trailing comma at line 1 column"),
        ("plain text", "not JSON: "),
        ("{\"ociVersion\": \"1.0.0\",}", "not JSON: trailing comma at line 1 column"),
        ("{\"ociVersion\": \"1.0.0\"} {}", "not JSON: trailing characters at line 1 column 25"),
        ("{\"hostname\": \"a\", \"hostname\": \"b\"}", "duplicate field `hostname`"),
        ("\u{0}\u{1}", "not JSON"),
    ] {
        let text = load(raw.as_bytes()).unwrap_err().to_string();
        assert!(text.contains(words), "{raw}: {text}");
        assert!(text.starts_with("config.json: "), "{raw}: {text}");
    }
    let text = load(b"{\"hostname\": \"\xff\"}").unwrap_err().to_string();
    assert!(text.contains("unicode"), "{text}");
}

#[test]
fn long_values_are_not_repeated_in_full() {
    let text = load(&with("/mounts", json!("ä".repeat(10_000)))).unwrap_err().to_string();
    assert!(text.len() < 600 && text.contains("..."), "{text}");
}

#[test]
fn unknown_properties_and_other_platforms_are_ignored() {
    assert!(load(&with("/novelty", json!({"a": [1, {}]}))).is_ok());
    assert!(load(&with("/process/novelty", json!(1))).is_ok());
    for section in ["windows", "solaris", "vm", "zos", "freebsd"] {
        assert!(load(&with(&format!("/{section}"), json!({"devices": 1}))).is_ok(), "{section}");
        assert!(load(&with(&format!("/{section}"), json!("x"))).is_ok(), "{section}");
    }
}

#[test]
fn unknown_capabilities_are_left_out_with_a_warning() {
    let caps = json!({"bounding": ["CAP_KILL", "CAP_TELEPORT", "CAP_CHOWN", "CAP_CAP_MKNOD"]});
    let loaded = load(&with("/process/capabilities", caps)).unwrap();
    let fields: Vec<_> = loaded.warnings.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(fields, ["process.capabilities.bounding[1]", "process.capabilities.bounding[3]"]);
    assert!(loaded.warnings[0].reason.contains("CAP_TELEPORT"));
    let process = loaded.spec.process().as_ref().unwrap();
    let bounding = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
    assert_eq!(capabilities::mask(bounding), 1 | 1 << 5);
}

#[test]
fn malformed_capabilities_are_errors() {
    for name in ["kill", "KILL", "cap_kill", "CAP_kill", "", "CAP_", "CAP_KILL\n"] {
        let caps = json!({"ambient": ["CAP_CHOWN", name]});
        let text = load(&with("/process/capabilities", caps)).unwrap_err().to_string();
        assert!(text.starts_with("process.capabilities.ambient[1]: "), "{name}: {text}");
        assert!(text.contains("malformed"), "{name}: {text}");
    }
}

#[test]
fn a_mended_document_still_names_other_mistakes() {
    let mut config = minimal();
    config["process"]["capabilities"] = json!({"bounding": ["CAP_TELEPORT"]});
    config["linux"]["namespaces"] = json!([{"type": "warp"}]);
    let text = load(config.to_string().as_bytes()).unwrap_err().to_string();
    assert!(text.starts_with("linux.namespaces[0].type: "), "{text}");
    // Not a line of the file that the user has.
    assert!(!text.contains("at line"), "{text}");
}

#[test]
fn what_the_specification_allows_beyond_oci_spec() {
    let process = |raw: &[u8]| load(raw).unwrap().spec.process().clone().unwrap();
    let flags = json!({"policy": "SCHED_DEADLINE", "flags": [
        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]});
    let parsed = process(&with("/process/scheduler", flags));
    assert_eq!(parsed.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 3);

    let parsed = process(&with("/process/execCPUAffinity", json!({"initial": "0", "final": ""})));
    let affinity = parsed.exec_cpu_affinity().clone().unwrap();
    assert_eq!(affinity.initial().as_deref(), Some("0"));
    assert_eq!(*affinity.cpu_affinity_final(), None);

    let parsed = process(&with("/process", json!({"args": ["sh"], "cwd": "/"})));
    assert_eq!((parsed.user().uid(), parsed.user().gid()), (0, 0));

    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}]});
    let loaded = load(&with("/linux/resources", huge)).unwrap();
    let resources = loaded.spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), i64::MAX);
}

#[test]
fn no_pids_limit_is_not_a_limit_of_zero() {
    let pids = |value| {
        let loaded = load(&with("/linux/resources", json!({"pids": value}))).unwrap();
        let linux = loaded.spec.linux().clone().unwrap();
        linux.resources().as_ref().unwrap().pids().map(|pids| pids.limit())
    };
    assert_eq!(pids(json!({})), None);
    assert_eq!(pids(json!({"limit": 0})), Some(1));
    assert_eq!(pids(json!({"limit": 9})), Some(9));
    assert_eq!(pids(json!(null)), None);
}

#[test]
fn resources_without_device_rules() {
    let text = r#"{"memory": {"limit": 5}, "pids": {}, "devices": [{"allow": true}], "x": 1}"#;
    let resources = load_resources(text.as_bytes(), "resources").unwrap();
    assert_eq!(resources.memory().unwrap().limit(), Some(5));
    assert_eq!((resources.devices(), resources.pids()), (&None, &None));

    for (text, words) in [
        ("", "resources on stdin: is empty"),
        ("nonsense", "resources on stdin: not JSON: expected ident"),
        ("{} {}", "resources on stdin: not JSON: trailing characters"),
        ("{\"cpu\": {", "resources on stdin: not JSON: it ends too early"),
        (" []", "linux.resources: is an array"),
        (r#"{"cpu": {"quota": "1"}}"#, "linux.resources.cpu.quota: invalid type: string \"1\""),
    ] {
        let error = load_resources(text.as_bytes(), "resources on stdin").unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let error = load_resources(std::io::repeat(b' '), "resources").unwrap_err().to_string();
    assert!(error.contains("at most 16777216"), "{error}");
}

/// What a plan and its filter are made of is all that [`load_spec_for_exec`] reads: of whatever else
/// they learn to look at, an example belongs here.
#[test]
fn exec_goes_by_the_same_as_create() {
    use crate::oci::plan::ProcessPlan;

    let mut document: Value = serde_json::from_str(include_str!("testdata/docker.json")).unwrap();
    document["annotations"] = json!({"run.oci.keep_original_groups": "1"});
    document["linux"]["personality"] = json!({"domain": "LINUX32"});
    document["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    let dir = TempDir::new("exec");
    let path = dir.0.join("config.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let (all, part) = (load_spec(&path).unwrap().spec, load_spec_for_exec(&path).unwrap());
    assert_eq!(part.process(), all.process());
    let seccomp = |spec: &Spec| spec.linux().as_ref().unwrap().seccomp().clone();
    assert!(seccomp(&all).is_some());
    assert_eq!(seccomp(&part), seccomp(&all));
    let plan = |spec: &Spec| {
        let plan = ProcessPlan::new(spec.process().as_ref().unwrap(), spec).unwrap();
        assert!(plan.platform.personality.is_some() && plan.platform.memory_policy.is_some());
        assert_eq!(plan.groups, None);
        format!("{plan:?}")
    };
    assert_eq!(plan(&part), plan(&all));
}

/// A directory that is removed with what is in it.
struct TempDir(std::path::PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("carob-load-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn files() {
    let dir = TempDir::new("files");
    let path = dir.0.join("config.json");
    let error = |path: &Path| load_spec(path).unwrap_err().to_string();

    assert!(error(&path).starts_with("JSON specification file config.json not found"));
    std::fs::write(&path, minimal().to_string()).unwrap();
    assert_eq!(load_spec(&path).unwrap().raw, minimal().to_string().into_bytes());
    std::fs::write(&path, "").unwrap();
    assert!(error(&path).ends_with("is empty, must be a JSON object"));
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    assert!(error(&path).contains("has 104857600 bytes, allowed are at most 16777216"));
    assert!(error(&dir.0).contains("must be a regular file"));

    let fifo = dir.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(error(&fifo).contains("must be a regular file"), "and does not wait for a writer");

    assert!(matches!(load_process(&dir.0.join("none")), Err(Error::Os { op: "open", .. })));
    let file = dir.0.join("process.json");
    std::fs::write(&file, r#"{"args": ["sh"], "cwd": 1}"#).unwrap();
    let text = load_process(&file).unwrap_err().to_string();
    assert!(text.starts_with("process.cwd: invalid type: integer `1`"), "{text}");
    for (text, words) in [("", "is empty"), ("{\"args\": [", "not JSON: it ends too early")] {
        std::fs::write(&file, text).unwrap();
        let text = load_process(&file).unwrap_err().to_string();
        assert!(text.starts_with(&format!("process file {}: {words}", file.display())), "{text}");
    }
    std::fs::write(&file, r#"{"cwd": "/", "capabilities": {"bounding": ["CAP_NO"]}}"#).unwrap();
    let loaded = load_process(&file).unwrap();
    assert_eq!(loaded.warnings[0].field, "process.capabilities.bounding[0]");
}
