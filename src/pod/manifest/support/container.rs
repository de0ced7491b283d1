//! Containers.

use super::{
    Kind::{Bool, Int32, Int64, Label, List, Object, Opaque, Port, Quantity, Text, Words},
    Limit, QUANTITIES, TEXTS, objects,
};

objects! {
CONTAINER "Container" {
    honoured "args" TEXTS, "Arguments instead of the image's.";
    honoured "command" TEXTS, "Program instead of the image's entrypoint.";
    honoured "env" List(&Object(&ENV)), "Environment; a later entry sees the earlier ones.";
    honoured "envFrom" List(&Object(&ENV_FROM)), "Environment from whole objects.";
    required "image" Text, "a name as in a cluster, or oci:PATH, oci-archive:PATH, docker-archive:PATH, dir:PATH, rootfs:PATH of a directory, bundle:PATH of an OCI bundle; a relative PATH counts from the directory of the manifest.";
    honoured "imagePullPolicy" Words(&["Always", "IfNotPresent", "Never"]),
        "When to pull; a directory is never pulled.";
    honoured "lifecycle" Object(&LIFECYCLE), "Hooks after start and before stop.";
    honoured "livenessProbe" Object(&PROBE), "Its failure restarts the container.";
    required "name" Label, "Unique in the pod.";
    honoured "ports" List(&Object(&PORT)), "Names for ports.";
    honoured "readinessProbe" Object(&PROBE), "Whether the container is ready.";
    ignored "resizePolicy" List(&Object(&RESIZE_POLICY)), "A running pod is not resized.";
    honoured "resources" Object(&RESOURCES), "Requests and limits.";
    honoured "restartPolicy" Words(&["Always", "Never", "OnFailure"]),
        "Instead of the pod's; Always makes an init container a sidecar.";
    honoured "restartPolicyRules" List(&Object(&RESTART_RULE)), "Exit codes that are special.";
    honoured "securityContext" Object(&SECURITY), "Users, privileges and confinement.";
    honoured "startupProbe" Object(&PROBE), "The other probes wait for its success.";
    honoured "stdin" Bool, "Keep stdin open for attach.";
    honoured "stdinOnce" Bool, "Close stdin after the first attach.";
    honoured "terminationMessagePath" Text, "File for a last message; /dev/termination-log.";
    honoured "terminationMessagePolicy" Words(&["FallbackToLogsOnError", "File"]),
        "Whether the end of the log can be the message.";
    honoured "tty" Bool, "Give it a terminal.";
    honoured "volumeDevices" List(&Object(&VOLUME_DEVICE)), "Block volumes as devices.";
    honoured "volumeMounts" List(&Object(&VOLUME_MOUNT)), "Volumes and where they go.";
    honoured "workingDir" Text, "Instead of the image's.";
}

ENV "EnvVar" {
    required "name" Text, "Name of the variable.";
    honoured "value" Text, "Its value; $(NAME) is replaced.";
    honoured "valueFrom" Object(&ENV_SOURCE), "Where its value comes from.";
}

ENV_SOURCE "EnvVarSource" {
    honoured "configMapKeyRef" Object(&CONFIG_MAP_KEY), "A key of a ConfigMap.";
    honoured "fieldRef" Object(&FIELD_REF), "A field of the pod.";
    refused "fileKeyRef" Opaque("FileKeySelector"), "files of variables are not supported yet";
    honoured "resourceFieldRef" Object(&RESOURCE_REF), "A request or limit.";
    honoured "secretKeyRef" Object(&SECRET_KEY), "A key of a Secret.";
}

CONFIG_MAP_KEY "ConfigMapKeySelector" {
    required "key" Text, "The key.";
    required "name" Text, "Name of the ConfigMap.";
    honoured "optional" Bool, "Go on without it.";
}

SECRET_KEY "SecretKeySelector" {
    required "key" Text, "The key.";
    required "name" Text, "Name of the Secret.";
    honoured "optional" Bool, "Go on without it.";
}

FIELD_REF "ObjectFieldSelector" {
    honoured "apiVersion" Words(&["v1"]), "v1.";
    required "fieldPath" Text, "Such as metadata.name or status.podIP.";
}

RESOURCE_REF "ResourceFieldSelector" {
    honoured "containerName" Text, "Whose; in volumes it must be given.";
    honoured "divisor" Quantity, "The unit; default is 1.";
    required "resource" Text, "Such as limits.memory.";
}

ENV_FROM "EnvFromSource" {
    honoured "configMapRef" Object(&CONFIG_MAP_ENV), "All keys of a ConfigMap.";
    honoured "prefix" Text, "Put before each name.";
    honoured "secretRef" Object(&SECRET_ENV), "All keys of a Secret.";
}

CONFIG_MAP_ENV "ConfigMapEnvSource" {
    required "name" Text, "Name of the ConfigMap.";
    honoured "optional" Bool, "Go on without it.";
}

SECRET_ENV "SecretEnvSource" {
    required "name" Text, "Name of the Secret.";
    honoured "optional" Bool, "Go on without it.";
}

LIFECYCLE "Lifecycle" {
    honoured "postStart" Object(&HANDLER), "Run right after the start; the next container waits.";
    honoured "preStop" Object(&HANDLER), "Run before the stop signal, within the grace period.";
    honoured "stopSignal" Text, "Instead of the image's, else SIGTERM; needs spec.os.name.";
}

HANDLER "LifecycleHandler" {
    honoured "exec" Object(&EXEC), "Run a command in the container.";
    honoured "httpGet" Object(&HTTP_GET), "Ask a server; its status code does not matter.";
    honoured "sleep" Object(&SLEEP), "Wait.";
    refused "tcpSocket" Opaque("TCPSocketAction"), "is not a handler that a hook can have";
}

EXEC "ExecAction" {
    required "command" TEXTS, "Not run by a shell.";
}

SLEEP "SleepAction" {
    honoured "seconds" Int64(Limit::Any), "How long.";
}

HTTP_GET "HTTPGetAction" {
    honoured "host" Text, "Default is the pod's address.";
    honoured "httpHeaders" List(&Object(&HTTP_HEADER)), "Headers of the request.";
    honoured "path" Text, "Default is /.";
    required "port" Port, "Number or name.";
    honoured "scheme" Words(&["HTTP", "HTTPS"]), "HTTPS is not verified.";
}

HTTP_HEADER "HTTPHeader" {
    required "name" Text, "Name of the header.";
    honoured "value" Text, "Its value.";
}

TCP_SOCKET "TCPSocketAction" {
    honoured "host" Text, "Default is the pod's address.";
    required "port" Port, "Number or name.";
}

GRPC "GRPCAction" {
    required "port" Int32(Limit::Port), "Number of the port.";
    honoured "service" Text, "Whose health to ask for.";
}

PROBE "Probe" {
    honoured "exec" Object(&EXEC), "Exit status 0 is a success.";
    honoured "failureThreshold" Int32(Limit::NotNegative), "Failures in a row; default 3.";
    honoured "grpc" Object(&GRPC), "Ask the health service.";
    honoured "httpGet" Object(&HTTP_GET), "200 to 399 is a success.";
    honoured "initialDelaySeconds" Int32(Limit::NotNegative), "From the start; default 0.";
    honoured "periodSeconds" Int32(Limit::NotNegative), "Between attempts; default 10.";
    honoured "successThreshold" Int32(Limit::NotNegative), "Successes in a row; default 1.";
    honoured "tcpSocket" Object(&TCP_SOCKET), "A connection is a success.";
    honoured "terminationGracePeriodSeconds" Int64(Limit::Any),
        "Instead of the pod's, where the probe kills.";
    honoured "timeoutSeconds" Int32(Limit::NotNegative), "Of an attempt; default 1.";
}

PORT "ContainerPort" {
    required "containerPort" Int32(Limit::Port), "Number of the port.";
    honoured "hostIP" Text, "With hostPort: only at this address of the machine.";
    honoured "hostPort" Int32(Limit::Any),
        "Port of the machine; by a plugin with the capability portMappings, else refused.";
    honoured "name" Text, "What probes and hooks can call it.";
    honoured "protocol" Words(&["SCTP", "TCP", "UDP"]), "Default TCP.";
}

RESIZE_POLICY "ContainerResizePolicy" {
    required "resourceName" Text, "";
    required "restartPolicy" Words(&["NotRequired", "RestartContainer"]), "";
}

RESOURCES "ResourceRequirements" {
    refused "claims" Opaque("[]ResourceClaim"), "dynamic resources are not supported";
    honoured "limits" QUANTITIES, "At most: cpu, memory, hugepages-<size>.";
    honoured "requests" QUANTITIES, "Weight among others: cpu; and QoS: memory.";
}

RESTART_RULE "ContainerRestartRule" {
    required "action" Words(&["Restart", "RestartAllContainers"]), "What then.";
    honoured "exitCodes" Object(&EXIT_CODES), "When.";
}

EXIT_CODES "ContainerRestartRuleOnExitCodes" {
    required "operator" Words(&["In", "NotIn"]), "Whether it is these or all others.";
    honoured "values" List(&Int32(Limit::Any)), "Exit codes.";
}

SECURITY "SecurityContext" {
    honoured "allowPrivilegeEscalation" Bool, "false: no_new_privs.";
    honoured "appArmorProfile" Object(&APP_ARMOR), "AppArmor profile.";
    honoured "capabilities" Object(&CAPABILITIES), "Capabilities beyond or below the default.";
    honoured "privileged" Bool, "All capabilities, all devices, no confinement.";
    honoured "procMount" Words(&["Default", "Unmasked"]), "Whether parts of /proc are hidden.";
    honoured "readOnlyRootFilesystem" Bool, "Only volumes can be written to.";
    honoured "runAsGroup" Int64(Limit::Id), "Primary group.";
    honoured "runAsNonRoot" Bool, "Must not run as user 0.";
    honoured "runAsUser" Int64(Limit::Id), "User.";
    honoured "seLinuxOptions" Object(&SE_LINUX), "SELinux label.";
    honoured "seccompProfile" Object(&SECCOMP), "System calls that it may make.";
    refused "windowsOptions" Opaque("WindowsSecurityContextOptions"), "only for Windows";
}

APP_ARMOR "AppArmorProfile" {
    honoured "localhostProfile" Text, "Name of a profile that is loaded.";
    required "type" Words(&["Localhost", "RuntimeDefault", "Unconfined"]),
        "Which profile; there is none that is RuntimeDefault: the pod fails.";
}

CAPABILITIES "Capabilities" {
    honoured "add" TEXTS, "Without CAP_; ALL is all.";
    honoured "drop" TEXTS, "Without CAP_; ALL is all.";
}

SE_LINUX "SELinuxOptions" {
    honoured "level" Text, "Level of the label.";
    honoured "role" Text, "Role of the label.";
    honoured "type" Text, "Type of the label.";
    honoured "user" Text, "User of the label.";
}

SECCOMP "SeccompProfile" {
    honoured "localhostProfile" Text, "File of the profile, below the directory of profiles.";
    required "type" Words(&["Localhost", "RuntimeDefault", "Unconfined"]), "Which profile.";
}

VOLUME_DEVICE "VolumeDevice" {
    required "devicePath" Text, "Path of the device in the container.";
    required "name" Text, "Name of a volume with a claim.";
}

VOLUME_MOUNT "VolumeMount" {
    required "mountPath" Text, "Where it goes in the container.";
    honoured "mountPropagation" Words(&["Bidirectional", "HostToContainer", "None"]),
        "Whether later mounts are seen; Bidirectional only if privileged.";
    required "name" Text, "Name of the volume.";
    honoured "readOnly" Bool, "It cannot be written to.";
    honoured "recursiveReadOnly" Words(&["Disabled", "Enabled", "IfPossible"]),
        "Nor can what is mounted in it.";
    honoured "subPath" Text, "Only this path of the volume.";
    honoured "subPathExpr" Text, "As subPath; $(NAME) is replaced.";
}
}
