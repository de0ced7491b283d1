//! Kinds of objects, and the metadata they share.

use super::pod::POD_SPEC;
use super::storage::{CLAIM_SPEC, VOLUME_SPEC};
use super::{
    Kind::{Bool, Bytes, Int64, Label, List, Map, Object, Opaque, Subdomain, Text, Time},
    Limit, TEXT_MAP, TEXTS, objects,
};

const READ_ONLY: &str = "Set by an API server.";
const STATUS: &str = "Read only: see pod inspect.";

objects! {
POD "Pod" {
    honoured "metadata" Object(&METADATA), "Name, labels, annotations.";
    required "spec" Object(&POD_SPEC), "What to run.";
    ignored "status" Opaque("PodStatus"), STATUS;
}

CONFIG_MAP "ConfigMap" {
    honoured "binaryData" Map(&Bytes), "Binary values by key.";
    honoured "data" TEXT_MAP, "Values by key.";
    ignored "immutable" Bool, "An object is what its file says.";
    honoured "metadata" Object(&METADATA), "The name that a pod refers to.";
}

SECRET "Secret" {
    honoured "data" Map(&Bytes), "Values by key.";
    ignored "immutable" Bool, "An object is what its file says.";
    honoured "metadata" Object(&METADATA), "The name that a pod refers to.";
    honoured "stringData" TEXT_MAP, "Values by key, not encoded; they win over data.";
    ignored "type" Text, "All types are alike to a pod.";
}

PERSISTENT_VOLUME_CLAIM "PersistentVolumeClaim" {
    honoured "metadata" Object(&METADATA), "The name that a pod refers to.";
    required "spec" Object(&CLAIM_SPEC), "Which volume is asked for.";
    ignored "status" Opaque("PersistentVolumeClaimStatus"), "Read only.";
}

PERSISTENT_VOLUME "PersistentVolume" {
    honoured "metadata" Object(&METADATA), "The name that a claim refers to.";
    required "spec" Object(&VOLUME_SPEC), "Where the volume is.";
    ignored "status" Opaque("PersistentVolumeStatus"), "Read only.";
}

METADATA "ObjectMeta" {
    honoured "annotations" TEXT_MAP, "For fieldRef; those of carob tune back-off and probes.";
    honoured "creationTimestamp" Time, "AGE is counted from it; default is the present.";
    ignored "deletionGracePeriodSeconds" Int64(Limit::Any), READ_ONLY;
    ignored "deletionTimestamp" Time, READ_ONLY;
    ignored "finalizers" TEXTS, "There is no controller that would wait for them.";
    honoured "generateName" Text, "Start of the name where none is given; 5 characters are added.";
    ignored "generation" Int64(Limit::Any), READ_ONLY;
    honoured "labels" TEXT_MAP, "For fieldRef and to show.";
    ignored "managedFields" Opaque("[]ManagedFieldsEntry"), READ_ONLY;
    honoured "name" Subdomain, "With the namespace, what the pod is called by all verbs.";
    honoured "namespace" Label, "A second part of the name; default is \"default\".";
    ignored "ownerReferences" List(&Object(&OWNER_REFERENCE)), "There is no garbage collector.";
    ignored "resourceVersion" Text, READ_ONLY;
    ignored "selfLink" Text, READ_ONLY;
    honoured "uid" Text, "At most 63 of a-z, 0-9 and -; default is a random one.";
}

OWNER_REFERENCE "OwnerReference" {
    required "apiVersion" Text, "";
    ignored "blockOwnerDeletion" Bool, "";
    ignored "controller" Bool, "";
    required "kind" Text, "";
    required "name" Text, "";
    required "uid" Text, "";
}
}
