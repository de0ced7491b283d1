use k8s_openapi::api::core::v1::Pod;

use super::super::problem::Problems;
use super::super::{decode, defaults, support, tree::Node, yaml};
use super::*;

fn node(text: &str) -> Node {
    yaml::documents(text).unwrap().remove(0)
}

/// What is wrong with a pod of which the spec has these fields, in flow style, besides a
/// container `a`; `$C` is for more of its fields.
fn problems(spec: &str, container: &str) -> String {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, \
         image: b, {container}}}], {spec}}}}}"
    );
    let node = node(&text);
    let mut problems = Problems::default();
    let json = decode::decode(support::pod(), &node, &mut problems);
    assert!(!problems.has_type_errors(), "{text}: {problems:?}");
    let mut pod: Pod = serde_json::from_value(json).unwrap();
    defaults::pod(&mut pod);
    super::pod(&pod, &mut problems);
    references(&pod.spec.unwrap(), &Given::default(), &mut problems);
    problems.report("f", &node, "Pod", "a").join("\n")
}

#[test]
fn what_is_valid_is_accepted() {
    for (spec, container) in [
        ("", ""),
        (
            "restartPolicy: Never, dnsPolicy: None, dnsConfig: {nameservers: [::1], searches: [., a_b.c]}",
            "",
        ),
        ("hostNetwork: true", "ports: [{containerPort: 80, hostPort: 80}]"),
        (
            "initContainers: [{name: b, image: c, restartPolicy: Always, startupProbe: {exec: {command: [x]}}}]",
            "",
        ),
        (
            "securityContext: {sysctls: [{name: net/ipv4/ip_unprivileged_port_start, value: '0'}]}",
            "",
        ),
        ("hostUsers: false", "securityContext: {procMount: Unmasked}"),
        (
            "os: {name: linux}",
            "lifecycle: {stopSignal: SIGRTMIN+3, preStop: {sleep: {seconds: 30}}}",
        ),
        (
            "",
            "ports: [{containerPort: 80, name: web}], readinessProbe: {successThreshold: 2, httpGet: {port: web}}",
        ),
        ("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /v, subPath: a..b/c}]"),
        (
            "volumes: [{name: v, configMap: {name: c, optional: true}}]",
            "envFrom: [{secretRef: {name: s, optional: true}}]",
        ),
        (
            "",
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]",
        ),
        ("", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a/b']\"}}}]"),
        ("", "resources: {limits: {cpu: 1, memory: 64Mi, hugepages-2Mi: 4Mi}}"),
        ("resources: {limits: {cpu: 2}}", "resources: {limits: {cpu: 1}}"),
        (
            "",
            "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]",
        ),
    ] {
        assert_eq!(problems(spec, container), "", "{spec} {container}");
    }
}

/// Rows are: more of the spec, more of the container, what must be said.
const INVALID: &[(&str, &str, &str)] = &[
    // Containers.
    (
        "initContainers: [{name: a, image: b}]",
        "",
        "spec.containers[0].name: Duplicate value: \"a\"",
    ),
    (
        "initContainers: [{name: b, image: c, readinessProbe: {exec: {command: [x]}}}]",
        "",
        "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    (
        "initContainers: [{name: b, image: c, lifecycle: {}}]",
        "",
        "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers",
    ),
    // Ports.
    (
        "",
        "ports: [{containerPort: 0}]",
        "ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (
        "",
        "ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]",
        "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
    ),
    ("", "ports: [{containerPort: 1, name: '80'}]", "must contain at least one letter (a-z)"),
    (
        "hostNetwork: true",
        "ports: [{containerPort: 1, hostPort: 2}]",
        "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
    ),
    (
        "hostNetwork: true",
        "ports: [{containerPort: 1}, {containerPort: 1}]",
        "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
    ),
    (
        "",
        "ports: [{containerPort: 1, hostPort: 65536}]",
        "ports[0].hostPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    (
        "",
        "ports: [{containerPort: 1, hostPort: 2, hostIP: here}]",
        "ports[0].hostIP: Invalid value: \"here\"",
    ),
    // Probes and hooks.
    (
        "",
        "livenessProbe: {}",
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    ),
    (
        "",
        "livenessProbe: {exec: {command: [x]}, tcpSocket: {port: 1}}",
        "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    ),
    ("", "livenessProbe: {exec: {}}", "livenessProbe.exec.command: Required value"),
    (
        "",
        "livenessProbe: {successThreshold: 2, exec: {command: [x]}}",
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        "",
        "startupProbe: {periodSeconds: -1, exec: {command: [x]}}",
        "must be greater than or equal to 0",
    ),
    (
        "",
        "readinessProbe: {terminationGracePeriodSeconds: 5, exec: {command: [x]}}",
        "terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
    ),
    (
        "",
        "livenessProbe: {terminationGracePeriodSeconds: 0, exec: {command: [x]}}",
        "terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        "",
        "livenessProbe: {httpGet: {port: web}}",
        "livenessProbe.httpGet.port: Not found: \"web\": no port of this container has this name",
    ),
    ("", "livenessProbe: {tcpSocket: {port: 70000}}", "must be between 1 and 65535, inclusive"),
    (
        "",
        "livenessProbe: {httpGet: {port: 1, scheme: http}}",
        "Unsupported value: \"http\": supported values: \"HTTP\", \"HTTPS\"",
    ),
    (
        "",
        "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: c}]}}",
        "httpHeaders[0].name: Invalid value: \"a b\": a valid HTTP header must consist of",
    ),
    (
        "",
        "livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: \"b\\r\\nc: d\"}]}}",
        "must not contain line breaks",
    ),
    (
        "",
        "lifecycle: {preStop: {sleep: {seconds: 31}}}",
        "preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    ("", "lifecycle: {preStop: {tcpSocket: {port: 1}}}", "preStop.tcpSocket: Forbidden"),
    (
        "",
        "lifecycle: {stopSignal: SIGTERM}",
        "stopSignal: Forbidden: may not be set when `spec.os.name` is not set",
    ),
    ("os: {name: linux}", "lifecycle: {stopSignal: '9'}", "must be a signal of Linux"),
    (
        "os: {name: windows}",
        "",
        "spec.os.name: Unsupported value: \"windows\": supported values: \"linux\"",
    ),
    // Environment.
    (
        "",
        "env: [{name: A=B}]",
        "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment",
    ),
    ("", "env: [{name: ''}]", "spec.containers[0].env[0].name: Required value"),
    (
        "",
        "env: [{name: A, valueFrom: {}}]",
        "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
    ),
    (
        "",
        "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
        "may not be specified when `value` is not empty",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: a, key: b, optional: true}}}]",
        "may not have more than one field specified at a time",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]",
        "fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\"",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"spec.nodeName['a']\"}}}]",
        "does not support subscript",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 3}}}]",
        "Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.disk}}}]",
        "Unsupported value: \"limits.disk\"",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: x}}}]",
        "Not found: \"x\"",
    ),
    ("", "envFrom: [{prefix: a}]", "must specify one of: `configMapRef` or `secretRef`"),
    // References.
    (
        "",
        "envFrom: [{configMapRef: {name: c}}]",
        "spec.containers[0].envFrom[0].configMapRef.name: Not found: \"c\": give the ConfigMap in the same file, or in another one next to it",
    ),
    (
        "",
        "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
        "secretKeyRef.name: Not found: \"s\"",
    ),
    (
        "volumes: [{name: v, persistentVolumeClaim: {claimName: p}}]",
        "",
        "claimName: Not found: \"p\": give the PersistentVolumeClaim",
    ),
    (
        "volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]",
        "",
        "sources[0].secret.name: Not found: \"s\"",
    ),
    // Volumes.
    ("volumes: [{name: v}, {name: v}]", "", "spec.volumes[1].name: Duplicate value: \"v\""),
    (
        "volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]",
        "",
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ),
    (
        "volumes: [{name: v, hostPath: {path: /a/../b}}]",
        "",
        "hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
    ),
    ("volumes: [{name: v, hostPath: {path: a}}]", "", "must be an absolute path"),
    (
        "volumes: [{name: v, hostPath: {path: /a, type: Dir}}]",
        "",
        "hostPath.type: Unsupported value: \"Dir\"",
    ),
    ("volumes: [{name: v, emptyDir: {medium: Disk}}]", "", "emptyDir.medium: Unsupported value"),
    (
        "volumes: [{name: v, emptyDir: {sizeLimit: -1}}]",
        "",
        "SizeLimit field must be a valid resource quantity",
    ),
    (
        "volumes: [{name: v, secret: {secretName: s, optional: true, items: [{key: k, path: ../x}]}}]",
        "",
        "items[0].path: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        "volumes: [{name: v, secret: {secretName: s, optional: true, items: [{key: k, path: ..x}]}}]",
        "",
        "must not start with '..'",
    ),
    (
        "volumes: [{name: v, secret: {secretName: s, optional: true, items: [{key: k, path: /x}]}}]",
        "",
        "must be a relative path",
    ),
    (
        "volumes: [{name: v, downwardAPI: {items: [{path: a}]}}]",
        "",
        "one of fieldRef and resourceFieldRef is required",
    ),
    (
        "volumes: [{name: v, downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}}]",
        "",
        "containerName: Required value",
    ),
    (
        "volumes: [{name: v, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}}]",
        "",
        "Unsupported value: \"status.podIP\"",
    ),
    (
        "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: a}}]}}]",
        "",
        "serviceAccountToken: Forbidden: there is no API server",
    ),
    ("volumes: [{name: v, image: {}}]", "", "spec.volumes[0].image.reference: Required value"),
    (
        "volumes: [{name: v, image: {reference: ' a'}}]",
        "",
        "spec.volumes[0].image.reference: Invalid value: \" a\": must not have leading",
    ),
    (
        "volumes: [{name: v, image: {reference: a}, emptyDir: {}}]",
        "",
        "spec.volumes[0].image: Forbidden: may not specify more than 1 volume type",
    ),
    (
        "volumes: [{name: v, projected: {sources: [{downwardAPI: {}, secret: {name: s, optional: true}}]}}]",
        "",
        "sources[0]: Forbidden: may not specify more than 1 volume type per source",
    ),
    (
        "volumes: [{name: v, projected: {sources: [{secret: {name: s, optional: true, items: [{key: a, path: p}, {key: b, path: p}]}}]}}]",
        "",
        "sources[0]: Invalid value: \"s\": conflicting duplicate paths",
    ),
    // Mounts.
    (
        "",
        "volumeMounts: [{name: v, mountPath: /v}]",
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v}]",
        "volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, subPath: /a}]",
        "subPath: Invalid value: \"/a\": must be a relative path",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, subPath: a/../b}]",
        "must not contain '..'",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, subPath: a, subPathExpr: b}]",
        "subPathExpr and subPath are mutually exclusive",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
        "Forbidden: Bidirectional mount propagation is available only to privileged containers",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled}]",
        "may only be specified when readOnly is true",
    ),
    (
        "volumes: [{name: v}]",
        "volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled, readOnly: true, mountPropagation: HostToContainer}]",
        "may only be specified when mountPropagation is None or not specified",
    ),
    (
        "volumes: [{name: v}]",
        "volumeDevices: [{name: v, devicePath: /dev/x}]",
        "volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim for block mode",
    ),
    (
        "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
        "volumeDevices: [{name: v, devicePath: /x}], volumeMounts: [{name: v, mountPath: /x}]",
        "devicePath: Invalid value: \"/x\": must be unique",
    ),
    // Resources.
    (
        "",
        "resources: {limits: {cpu: 1}, requests: {cpu: 2}}",
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    ),
    ("", "resources: {limits: {memory: -1}}", "must be greater than or equal to 0"),
    ("", "resources: {limits: {hugepages-2Mi: 2Mi}}", "HugePages require cpu or memory"),
    (
        "",
        "resources: {requests: {cpu: 1, hugepages-2Mi: 2Mi}}",
        "Limit must be set for non overcommitable resources",
    ),
    (
        "",
        "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}, requests: {hugepages-2Mi: 2Mi}}",
        "must be equal to hugepages-2Mi limit of 4Mi",
    ),
    (
        "",
        "resources: {limits: {cpu: 1, hugepages-2Mi: 3Mi}}",
        "must be a multiple of the page size 2Mi",
    ),
    (
        "",
        "resources: {limits: {a.com/gpu: 1}}",
        "limits[a.com/gpu]: Forbidden: there are no extended resources",
    ),
    ("", "resources: {limits: {gpu: 1}}", "must be a standard resource for containers"),
    ("", "resources: {claims: [{name: a}]}", "resources.claims: Forbidden"),
    (
        "resources: {requests: {cpu: 1}}",
        "resources: {requests: {cpu: 2}}",
        "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
    ),
    (
        "resources: {limits: {cpu: 1}}",
        "resources: {limits: {cpu: 2}}",
        "must be less than or equal to pod limits of 1",
    ),
    (
        "resources: {limits: {ephemeral-storage: 1}}",
        "",
        "spec.resources.limits[ephemeral-storage]: Unsupported value",
    ),
    // Security.
    (
        "",
        "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        "",
        "securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}, allowPrivilegeEscalation: false}",
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    ("", "securityContext: {procMount: Unmasked}", "`hostUsers` must be false to use `Unmasked`"),
    ("", "securityContext: {runAsUser: -1}", "must be between 0 and 2147483647, inclusive"),
    (
        "",
        "securityContext: {seccompProfile: {type: Localhost}}",
        "must be set when seccomp type is Localhost",
    ),
    (
        "",
        "securityContext: {seccompProfile: {type: Localhost, localhostProfile: ''}}",
        "must be set when seccomp type is Localhost",
    ),
    (
        "",
        "securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../a}}",
        "must not contain '..'",
    ),
    (
        "",
        "securityContext: {seccompProfile: {type: Unconfined, localhostProfile: a}}",
        "can only be set when seccomp type is Localhost",
    ),
    (
        "",
        "securityContext: {appArmorProfile: {type: Localhost}}",
        "must be set when AppArmor type is Localhost",
    ),
    ("", "securityContext: {windowsOptions: {}}", "windowsOptions: Forbidden"),
    ("securityContext: {fsGroup: 4294967296}", "", "fsGroup: Invalid value: 4294967296"),
    (
        "securityContext: {sysctls: [{name: kernel.core_pattern, value: '|/x'}]}",
        "",
        "sysctls[0].name: Forbidden: forbidden sysctl: \"kernel.core_pattern\" belongs to the whole machine",
    ),
    (
        "securityContext: {sysctls: [{name: 'net.ipv4.tcp_syncookies=1', value: '1'}]}",
        "",
        "must have at most 253 characters and match regex",
    ),
    (
        "securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: \"1\\nkernel.core_pattern=x\"}]}",
        "",
        "sysctls[0].value: Invalid value",
    ),
    (
        "hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}",
        "",
        "may not be specified when 'hostNetwork' is true",
    ),
    (
        "hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}",
        "",
        "may not be specified when 'hostIPC' is true",
    ),
    (
        "securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}, {name: net/ipv4/tcp_syncookies, value: '1'}]}",
        "",
        "Duplicate value: \"net/ipv4/tcp_syncookies\"",
    ),
    // The pod.
    (
        "shareProcessNamespace: true, hostPID: true",
        "",
        "ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    ("hostUsers: false, hostPID: true", "", "spec.hostPID: Forbidden: when `hostUsers` is false"),
    ("hostUsers: false, hostNetwork: true", "", "spec.hostNetwork: Forbidden"),
    (
        "dnsPolicy: None",
        "",
        "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    ),
    (
        "dnsPolicy: None, dnsConfig: {}",
        "",
        "must provide at least one DNS nameserver when `dnsPolicy` is None",
    ),
    (
        "dnsConfig: {nameservers: [a]}",
        "",
        "nameservers[0]: Invalid value: \"a\": must be a valid IP address",
    ),
    (
        "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}",
        "",
        "must not have more than 3 nameservers",
    ),
    ("dnsConfig: {searches: [\"a\\nnameserver 1.1.1.1\"]}", "", "searches[0]: Invalid value"),
    ("dnsConfig: {options: [{name: \"a\\nb\"}]}", "", "must not contain white space"),
    (
        "hostAliases: [{ip: x}]",
        "",
        "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address",
    ),
    (
        "hostAliases: [{ip: 1.1.1.1, hostnames: [\"a\\nb\"]}]",
        "",
        "hostAliases[0].hostnames[0]: Invalid value",
    ),
    ("hostname: A", "", "spec.hostname: Invalid value: \"A\""),
    ("hostnameOverride: a, hostNetwork: true", "", "spec.hostnameOverride: Forbidden"),
    ("setHostnameAsFQDN: true, hostnameOverride: a", "", "spec.hostnameOverride: Forbidden"),
    // Restart rules.
    (
        "",
        "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
        "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    (
        "",
        "restartPolicy: Never, restartPolicyRules: [{action: Restart}]",
        "exitCodes: Required value: must be specified",
    ),
    (
        "",
        "restartPolicy: Never, restartPolicyRules: [{action: Stop, exitCodes: {operator: In, values: [1]}}]",
        "Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
    ),
    ("restartPolicy: Sometimes", "", "supported values: \"Always\", \"Never\", \"OnFailure\""),
    ("activeDeadlineSeconds: 0", "", "must be between 1 and 2147483647, inclusive"),
];

#[test]
fn what_is_invalid_is_named_in_the_words_of_the_api() {
    for (spec, container, expected) in INVALID {
        let found = problems(spec, container);
        assert!(found.contains(expected), "{spec} {container}: {found:?}");
    }
}

#[test]
fn too_many_is_too_many() {
    let rule = "{action: Restart, exitCodes: {operator: In, values: [1]}}, ".repeat(21);
    let found = problems("", &format!("restartPolicy: Never, restartPolicyRules: [{rule}]"));
    assert!(found.contains("Too many: 21: must have at most 20 items"), "{found}");
    let found = problems(&format!("dnsConfig: {{searches: [{}]}}", "a, ".repeat(33)), "");
    assert!(found.contains("must not have more than 32 search paths"), "{found}");
}

#[test]
fn quantities_are_written_with_the_largest_suffix() {
    for (text, expected) in
        [("1024Mi", "1Gi"), ("1500m", "1500m"), ("1000", "1000"), ("0", "0"), ("2k", "2000")]
    {
        let quantity = crate::pod::member::quantity::Quantity::parse(text).unwrap();
        assert_eq!(resources::written(quantity), expected, "{text}");
    }
}
