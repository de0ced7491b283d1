//! Claims of storage, and what they are given.

use super::cluster::NODE_SELECTOR;
use super::source::{HOST_PATH, NETWORK};
use super::{
    CLUSTER,
    Kind::{List, Object, Opaque, Text, Words},
    QUANTITIES, TEXT_MAP, TEXTS, objects,
};

/// `accessModes`.
const MODES: super::Kind =
    List(&Words(&["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]));

objects! {
CLAIM_SPEC "PersistentVolumeClaimSpec" {
    honoured "accessModes" MODES, "The volume must have them.";
    refused "dataSource" Opaque("TypedLocalObjectReference"), "there is no provisioner of volumes";
    refused "dataSourceRef" Opaque("TypedObjectReference"), "there is no provisioner of volumes";
    honoured "resources" Object(&CLAIM_RESOURCES), "The volume must have the capacity.";
    honoured "selector" Object(&CLAIM_SELECTOR), "The volume must have these labels.";
    honoured "storageClassName" Text, "The volume must have it too.";
    ignored "volumeAttributesClassName" Text, CLUSTER;
    honoured "volumeMode" Words(&["Block", "Filesystem"]), "Block is for volumeDevices.";
    honoured "volumeName" Text, "The volume; without it, the smallest that suits.";
}

CLAIM_SELECTOR "LabelSelector" {
    refused "matchExpressions" Opaque("[]LabelSelectorRequirement"), "use matchLabels";
    honoured "matchLabels" TEXT_MAP, "All of them.";
}

CLAIM_RESOURCES "VolumeResourceRequirements" {
    ignored "limits" QUANTITIES, "A directory has no quota.";
    honoured "requests" QUANTITIES, "storage: at least so large.";
}

VOLUME_SPEC "PersistentVolumeSpec" {
    honoured "accessModes" MODES, "How it can be used.";
    refused "awsElasticBlockStore" Opaque("AWSElasticBlockStoreVolumeSource"), NETWORK;
    refused "azureDisk" Opaque("AzureDiskVolumeSource"), NETWORK;
    refused "azureFile" Opaque("AzureFilePersistentVolumeSource"), NETWORK;
    honoured "capacity" QUANTITIES, "What claims are compared with; no quota.";
    refused "cephfs" Opaque("CephFSPersistentVolumeSource"), NETWORK;
    refused "cinder" Opaque("CinderPersistentVolumeSource"), NETWORK;
    honoured "claimRef" Object(&OBJECT_REFERENCE), "Only for this claim.";
    refused "csi" Opaque("CSIPersistentVolumeSource"), NETWORK;
    refused "fc" Opaque("FCVolumeSource"), NETWORK;
    refused "flexVolume" Opaque("FlexPersistentVolumeSource"), NETWORK;
    refused "flocker" Opaque("FlockerVolumeSource"), NETWORK;
    refused "gcePersistentDisk" Opaque("GCEPersistentDiskVolumeSource"), NETWORK;
    refused "glusterfs" Opaque("GlusterfsPersistentVolumeSource"), NETWORK;
    honoured "hostPath" Object(&HOST_PATH), "A file or directory of the machine.";
    refused "iscsi" Opaque("ISCSIPersistentVolumeSource"), NETWORK;
    honoured "local" Object(&LOCAL), "A directory of the machine that fsGroup applies to.";
    refused "mountOptions" TEXTS, "a directory of the machine takes none";
    refused "nfs" Opaque("NFSVolumeSource"), NETWORK;
    ignored "nodeAffinity" Object(&VOLUME_NODE_AFFINITY), CLUSTER;
    ignored "persistentVolumeReclaimPolicy" Words(&["Delete", "Recycle", "Retain"]),
        "Volumes are always kept.";
    refused "photonPersistentDisk" Opaque("PhotonPersistentDiskVolumeSource"), NETWORK;
    refused "portworxVolume" Opaque("PortworxVolumeSource"), NETWORK;
    refused "quobyte" Opaque("QuobyteVolumeSource"), NETWORK;
    refused "rbd" Opaque("RBDPersistentVolumeSource"), NETWORK;
    refused "scaleIO" Opaque("ScaleIOPersistentVolumeSource"), NETWORK;
    honoured "storageClassName" Text, "Claims must have it too.";
    refused "storageos" Opaque("StorageOSPersistentVolumeSource"), NETWORK;
    ignored "volumeAttributesClassName" Text, CLUSTER;
    honoured "volumeMode" Words(&["Block", "Filesystem"]), "Block is for volumeDevices.";
    refused "vsphereVolume" Opaque("VsphereVirtualDiskVolumeSource"), NETWORK;
}

LOCAL "LocalVolumeSource" {
    refused "fsType" Text, "only for block devices";
    required "path" Text, "The path.";
}

VOLUME_NODE_AFFINITY "VolumeNodeAffinity" {
    ignored "required" Object(&NODE_SELECTOR), CLUSTER;
}

OBJECT_REFERENCE "ObjectReference" {
    ignored "apiVersion" Text, "It is a claim.";
    ignored "fieldPath" Text, "It is a whole claim.";
    ignored "kind" Text, "It is a claim.";
    honoured "name" Text, "Name of the claim.";
    honoured "namespace" Text, "Its namespace.";
    ignored "resourceVersion" Text, "Set by an API server.";
    ignored "uid" Text, "Set by an API server.";
}
}
