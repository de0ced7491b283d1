//! A pod's `spec`, but for containers and volumes.

use super::cluster::{
    AFFINITY, READINESS_GATE, SCHEDULING_GATE, SCHEDULING_GROUP, TOLERATION, TOPOLOGY_SPREAD,
};
use super::container::{APP_ARMOR, CONTAINER, RESOURCES, SE_LINUX, SECCOMP};
use super::source::VOLUME;
use super::{
    CLUSTER,
    Kind::{Bool, Int32, Int64, Label, List, Object, Opaque, Text, Words},
    Limit, QUANTITIES, TEXT_MAP, TEXTS, objects,
};

objects! {
POD_SPEC "PodSpec" {
    honoured "activeDeadlineSeconds" Int64(Limit::Deadline),
        "So long after its start the pod is stopped and Failed.";
    ignored "affinity" Object(&AFFINITY), CLUSTER;
    ignored "automountServiceAccountToken" Bool, "There is no API server to talk to.";
    required "containers" List(&Object(&CONTAINER)), "App containers, started in this order.";
    honoured "dnsConfig" Object(&DNS_CONFIG), "Added to what dnsPolicy puts into resolv.conf.";
    honoured "dnsPolicy" Words(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
        "Where resolv.conf comes from; without a cluster's DNS the first two are Default.";
    ignored "enableServiceLinks" Bool, "There are no services.";
    refused "ephemeralContainers" Opaque("[]EphemeralContainer"), "cannot be set on create";
    honoured "hostAliases" List(&Object(&HOST_ALIAS)), "More lines of /etc/hosts.";
    honoured "hostIPC" Bool, "Use the machine's IPC namespace.";
    honoured "hostNetwork" Bool, "Use the machine's network.";
    honoured "hostPID" Bool, "Use the machine's PID namespace.";
    honoured "hostUsers" Bool, "false: a user namespace of the pod's own; volumes in memory, such as secrets, then take Linux 6.3.";
    honoured "hostname" Label, "Host name instead of the pod's name.";
    honoured "hostnameOverride" Text, "Host name instead of all else, without a domain.";
    honoured "imagePullSecrets" List(&Object(&LOCAL_REFERENCE)),
        "Secrets with credentials for registries; those of the machine come after them.";
    honoured "initContainers" List(&Object(&CONTAINER)),
        "Run one after the other before the app containers; sidecars go on running.";
    ignored "nodeName" Text, CLUSTER;
    ignored "nodeSelector" TEXT_MAP, CLUSTER;
    honoured "os" Object(&OS), "Must be linux.";
    refused "overhead" QUANTITIES, "is set from a RuntimeClass, and there are none";
    ignored "preemptionPolicy" Words(&["Never", "PreemptLowerPriority"]), CLUSTER;
    ignored "priority" Int32(Limit::Any), CLUSTER;
    ignored "priorityClassName" Text, CLUSTER;
    honoured "readinessGates" List(&Object(&READINESS_GATE)),
        "Conditions that Ready waits for; nothing on this machine sets them.";
    refused "resourceClaims" Opaque("[]PodResourceClaim"), "dynamic resources are not supported";
    honoured "resources" Object(&RESOURCES), "Requests and limits of the pod as a whole.";
    honoured "restartPolicy" Words(&["Always", "Never", "OnFailure"]),
        "Which exits of a container are followed by a restart.";
    refused "runtimeClassName" Text, "carob is the only runtime";
    ignored "schedulerName" Text, CLUSTER;
    ignored "schedulingGates" List(&Object(&SCHEDULING_GATE)), CLUSTER;
    ignored "schedulingGroup" Object(&SCHEDULING_GROUP), CLUSTER;
    honoured "securityContext" Object(&POD_SECURITY), "Users, groups and confinement.";
    honoured "serviceAccount" Text, "Old name of serviceAccountName.";
    honoured "serviceAccountName" Text, "Only for fieldRef: there are no accounts.";
    honoured "setHostnameAsFQDN" Bool, "Host name with its domain.";
    honoured "shareProcessNamespace" Bool, "One PID namespace for all containers.";
    honoured "subdomain" Label, "Gives the host a domain.";
    honoured "terminationGracePeriodSeconds" Int64(Limit::NotNegative),
        "Time from preStop and SIGTERM to SIGKILL.";
    ignored "tolerations" List(&Object(&TOLERATION)), CLUSTER;
    ignored "topologySpreadConstraints" List(&Object(&TOPOLOGY_SPREAD)), CLUSTER;
    honoured "volumes" List(&Object(&VOLUME)), "What containers can mount.";
}

POD_SECURITY "PodSecurityContext" {
    honoured "appArmorProfile" Object(&APP_ARMOR), "AppArmor profile of all containers.";
    honoured "fsGroup" Int64(Limit::Id), "Group that owns the files of volumes.";
    honoured "fsGroupChangePolicy" Words(&["Always", "OnRootMismatch"]),
        "Whether files are given to fsGroup again when their root already is.";
    honoured "runAsGroup" Int64(Limit::Id), "Primary group of all containers.";
    honoured "runAsNonRoot" Bool, "No container may run as user 0.";
    honoured "runAsUser" Int64(Limit::Id), "User of all containers.";
    refused "seLinuxChangePolicy" Words(&["MountOption", "Recursive"]),
        "volumes are not relabelled";
    honoured "seLinuxOptions" Object(&SE_LINUX), "SELinux label of all containers; volumes keep theirs.";
    honoured "seccompProfile" Object(&SECCOMP), "System calls that containers may make.";
    honoured "supplementalGroups" List(&Int64(Limit::Id)), "More groups of all containers.";
    honoured "supplementalGroupsPolicy" Words(&["Merge", "Strict"]),
        "Whether the groups of the image's /etc/group count too.";
    honoured "sysctls" List(&Object(&SYSCTL)), "Safe, namespaced kernel parameters.";
    refused "windowsOptions" Opaque("WindowsSecurityContextOptions"), "only for Windows";
}

SYSCTL "Sysctl" {
    required "name" Text, "With dots or slashes.";
    honoured "value" Text, "Written as it is.";
}

DNS_CONFIG "PodDNSConfig" {
    honoured "nameservers" TEXTS, "At most 3 count.";
    honoured "options" List(&Object(&DNS_OPTION)), "They win over those of the same name.";
    honoured "searches" TEXTS, "At most 32 count.";
}

DNS_OPTION "PodDNSConfigOption" {
    required "name" Text, "Such as ndots.";
    honoured "value" Text, "Its value, if it takes one.";
}

HOST_ALIAS "HostAlias" {
    honoured "hostnames" TEXTS, "Names of the address.";
    required "ip" Text, "IPv4 or IPv6.";
}

LOCAL_REFERENCE "LocalObjectReference" {
    honoured "name" Text, "Name of the object.";
}

OS "PodOS" {
    required "name" Words(&["linux"]), "Must be linux.";
}
}
