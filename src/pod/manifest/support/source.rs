//! Volumes of a pod.

use super::container::{FIELD_REF, RESOURCE_REF};
use super::{
    Kind::{Bool, Int32, Label, List, Object, Opaque, Quantity, Text, Words},
    Limit, objects,
};

/// Why volumes of a cloud or a network are refused.
pub(super) const NETWORK: &str = "network and cloud volumes are not supported; mount it on the \
     machine and use hostPath";
/// Why volumes that need an API server are refused.
const API: &str = "there is no API server to issue it";
/// File modes.
const MODE: super::Kind = Int32(Limit::Mode);

objects! {
VOLUME "Volume" {
    refused "awsElasticBlockStore" Opaque("AWSElasticBlockStoreVolumeSource"), NETWORK;
    refused "azureDisk" Opaque("AzureDiskVolumeSource"), NETWORK;
    refused "azureFile" Opaque("AzureFileVolumeSource"), NETWORK;
    refused "cephfs" Opaque("CephFSVolumeSource"), NETWORK;
    refused "cinder" Opaque("CinderVolumeSource"), NETWORK;
    honoured "configMap" Object(&CONFIG_MAP_SOURCE), "Keys of a ConfigMap as files.";
    refused "csi" Opaque("CSIVolumeSource"), NETWORK;
    honoured "downwardAPI" Object(&DOWNWARD_SOURCE), "Fields of the pod as files.";
    honoured "emptyDir" Object(&EMPTY_DIR), "A directory that lives as long as the pod.";
    refused "ephemeral" Opaque("EphemeralVolumeSource"), "there is no provisioner of volumes";
    refused "fc" Opaque("FCVolumeSource"), NETWORK;
    refused "flexVolume" Opaque("FlexVolumeSource"), NETWORK;
    refused "flocker" Opaque("FlockerVolumeSource"), NETWORK;
    refused "gcePersistentDisk" Opaque("GCEPersistentDiskVolumeSource"), NETWORK;
    refused "gitRepo" Opaque("GitRepoVolumeSource"),
        "runs programs of the repository on the machine; clone in an init container";
    refused "glusterfs" Opaque("GlusterfsVolumeSource"), NETWORK;
    honoured "hostPath" Object(&HOST_PATH), "A file or directory of the machine.";
    honoured "image" Object(&IMAGE_SOURCE), "The files of an image, read-only.";
    refused "iscsi" Opaque("ISCSIVolumeSource"), NETWORK;
    required "name" Label, "Unique in the pod.";
    refused "nfs" Opaque("NFSVolumeSource"), NETWORK;
    honoured "persistentVolumeClaim" Object(&CLAIM_SOURCE), "The volume of a claim.";
    refused "photonPersistentDisk" Opaque("PhotonPersistentDiskVolumeSource"), NETWORK;
    refused "portworxVolume" Opaque("PortworxVolumeSource"), NETWORK;
    honoured "projected" Object(&PROJECTED), "Several sources in one directory.";
    refused "quobyte" Opaque("QuobyteVolumeSource"), NETWORK;
    refused "rbd" Opaque("RBDVolumeSource"), NETWORK;
    refused "scaleIO" Opaque("ScaleIOVolumeSource"), NETWORK;
    honoured "secret" Object(&SECRET_SOURCE), "Keys of a Secret as files, in memory.";
    refused "storageos" Opaque("StorageOSVolumeSource"), NETWORK;
    refused "vsphereVolume" Opaque("VsphereVirtualDiskVolumeSource"), NETWORK;
}

CONFIG_MAP_SOURCE "ConfigMapVolumeSource" {
    honoured "defaultMode" MODE, "Permissions of the files; default 0644.";
    honoured "items" List(&Object(&KEY_TO_PATH)), "Only these keys.";
    required "name" Text, "Name of the ConfigMap.";
    honoured "optional" Bool, "Go on without it.";
}

IMAGE_SOURCE "ImageVolumeSource" {
    honoured "pullPolicy" Words(&["Always", "IfNotPresent", "Never"]),
        "Default Always for the tag latest, else IfNotPresent.";
    required "reference" Text, "As the image of a container.";
}

SECRET_SOURCE "SecretVolumeSource" {
    honoured "defaultMode" MODE, "Permissions of the files; default 0644.";
    honoured "items" List(&Object(&KEY_TO_PATH)), "Only these keys.";
    honoured "optional" Bool, "Go on without it.";
    required "secretName" Text, "Name of the Secret.";
}

KEY_TO_PATH "KeyToPath" {
    required "key" Text, "The key.";
    honoured "mode" MODE, "Permissions of this file.";
    required "path" Text, "Its file, below the volume.";
}

DOWNWARD_SOURCE "DownwardAPIVolumeSource" {
    honoured "defaultMode" MODE, "Permissions of the files; default 0644.";
    honoured "items" List(&Object(&DOWNWARD_FILE)), "The files.";
}

DOWNWARD_FILE "DownwardAPIVolumeFile" {
    honoured "fieldRef" Object(&FIELD_REF), "A field of the pod.";
    honoured "mode" MODE, "Permissions of this file.";
    required "path" Text, "The file, below the volume.";
    honoured "resourceFieldRef" Object(&RESOURCE_REF), "A request or limit.";
}

EMPTY_DIR "EmptyDirVolumeSource" {
    honoured "medium" Text, "Memory, HugePages or HugePages-<size>; default is the disk.";
    honoured "sizeLimit" Quantity, "More than this ends the pod; of Memory, its size.";
}

HOST_PATH "HostPathVolumeSource" {
    required "path" Text, "The path.";
    honoured "type" Words(&[
        "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
        "Socket",
    ]), "What must be there, or is made.";
}

CLAIM_SOURCE "PersistentVolumeClaimVolumeSource" {
    required "claimName" Text, "Name of the claim.";
    honoured "readOnly" Bool, "It cannot be written to.";
}

PROJECTED "ProjectedVolumeSource" {
    honoured "defaultMode" MODE, "Permissions of the files; default 0644.";
    honoured "sources" List(&Object(&PROJECTION)), "A later one wins over an earlier one.";
}

PROJECTION "VolumeProjection" {
    refused "clusterTrustBundle" Opaque("ClusterTrustBundleProjection"), API;
    honoured "configMap" Object(&CONFIG_MAP_PROJECTION), "Keys of a ConfigMap.";
    honoured "downwardAPI" Object(&DOWNWARD_PROJECTION), "Fields of the pod.";
    refused "podCertificate" Opaque("PodCertificateProjection"), API;
    honoured "secret" Object(&SECRET_PROJECTION), "Keys of a Secret.";
    refused "serviceAccountToken" Opaque("ServiceAccountTokenProjection"), API;
}

CONFIG_MAP_PROJECTION "ConfigMapProjection" {
    honoured "items" List(&Object(&KEY_TO_PATH)), "Only these keys.";
    required "name" Text, "Name of the ConfigMap.";
    honoured "optional" Bool, "Go on without it.";
}

SECRET_PROJECTION "SecretProjection" {
    honoured "items" List(&Object(&KEY_TO_PATH)), "Only these keys.";
    required "name" Text, "Name of the Secret.";
    honoured "optional" Bool, "Go on without it.";
}

DOWNWARD_PROJECTION "DownwardAPIProjection" {
    honoured "items" List(&Object(&DOWNWARD_FILE)), "The files.";
}
}
