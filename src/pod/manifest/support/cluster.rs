//! What only a cluster's scheduler looks at: checked, and ignored.

use super::{
    CLUSTER,
    Kind::{Int32, Int64, List, Object, Text, Words},
    Limit, TEXT_MAP, TEXTS, objects,
};

objects! {
AFFINITY "Affinity" {
    ignored "nodeAffinity" Object(&NODE_AFFINITY), CLUSTER;
    ignored "podAffinity" Object(&POD_AFFINITY), CLUSTER;
    ignored "podAntiAffinity" Object(&POD_ANTI_AFFINITY), CLUSTER;
}

NODE_AFFINITY "NodeAffinity" {
    ignored "preferredDuringSchedulingIgnoredDuringExecution" List(&Object(&PREFERENCE)), CLUSTER;
    ignored "requiredDuringSchedulingIgnoredDuringExecution" Object(&NODE_SELECTOR), CLUSTER;
}

PREFERENCE "PreferredSchedulingTerm" {
    ignored "preference" Object(&NODE_SELECTOR_TERM), CLUSTER;
    ignored "weight" Int32(Limit::Any), CLUSTER;
}

NODE_SELECTOR "NodeSelector" {
    ignored "nodeSelectorTerms" List(&Object(&NODE_SELECTOR_TERM)), CLUSTER;
}

NODE_SELECTOR_TERM "NodeSelectorTerm" {
    ignored "matchExpressions" List(&Object(&NODE_REQUIREMENT)), CLUSTER;
    ignored "matchFields" List(&Object(&NODE_REQUIREMENT)), CLUSTER;
}

NODE_REQUIREMENT "NodeSelectorRequirement" {
    ignored "key" Text, CLUSTER;
    ignored "operator" Words(&["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"]), CLUSTER;
    ignored "values" TEXTS, CLUSTER;
}

POD_AFFINITY "PodAffinity" {
    ignored "preferredDuringSchedulingIgnoredDuringExecution" List(&Object(&WEIGHTED)), CLUSTER;
    ignored "requiredDuringSchedulingIgnoredDuringExecution" List(&Object(&POD_TERM)), CLUSTER;
}

POD_ANTI_AFFINITY "PodAntiAffinity" {
    ignored "preferredDuringSchedulingIgnoredDuringExecution" List(&Object(&WEIGHTED)), CLUSTER;
    ignored "requiredDuringSchedulingIgnoredDuringExecution" List(&Object(&POD_TERM)), CLUSTER;
}

WEIGHTED "WeightedPodAffinityTerm" {
    ignored "podAffinityTerm" Object(&POD_TERM), CLUSTER;
    ignored "weight" Int32(Limit::Any), CLUSTER;
}

POD_TERM "PodAffinityTerm" {
    ignored "labelSelector" Object(&LABEL_SELECTOR), CLUSTER;
    ignored "matchLabelKeys" TEXTS, CLUSTER;
    ignored "mismatchLabelKeys" TEXTS, CLUSTER;
    ignored "namespaceSelector" Object(&LABEL_SELECTOR), CLUSTER;
    ignored "namespaces" TEXTS, CLUSTER;
    ignored "topologyKey" Text, CLUSTER;
}

LABEL_SELECTOR "LabelSelector" {
    ignored "matchExpressions" List(&Object(&LABEL_REQUIREMENT)), CLUSTER;
    ignored "matchLabels" TEXT_MAP, CLUSTER;
}

LABEL_REQUIREMENT "LabelSelectorRequirement" {
    ignored "key" Text, CLUSTER;
    ignored "operator" Words(&["DoesNotExist", "Exists", "In", "NotIn"]), CLUSTER;
    ignored "values" TEXTS, CLUSTER;
}

READINESS_GATE "PodReadinessGate" {
    required "conditionType" Text, "Type of the condition.";
}

SCHEDULING_GATE "PodSchedulingGate" {
    ignored "name" Text, CLUSTER;
}

SCHEDULING_GROUP "PodSchedulingGroup" {
    ignored "podGroupName" Text, CLUSTER;
}

TOLERATION "Toleration" {
    ignored "effect" Words(&["NoExecute", "NoSchedule", "PreferNoSchedule"]), CLUSTER;
    ignored "key" Text, CLUSTER;
    ignored "operator" Words(&["Equal", "Exists", "Gt", "Lt"]), CLUSTER;
    ignored "tolerationSeconds" Int64(Limit::Any), CLUSTER;
    ignored "value" Text, CLUSTER;
}

TOPOLOGY_SPREAD "TopologySpreadConstraint" {
    ignored "labelSelector" Object(&LABEL_SELECTOR), CLUSTER;
    ignored "matchLabelKeys" TEXTS, CLUSTER;
    ignored "maxSkew" Int32(Limit::Any), CLUSTER;
    ignored "minDomains" Int32(Limit::Any), CLUSTER;
    ignored "nodeAffinityPolicy" Words(&["Honor", "Ignore"]), CLUSTER;
    ignored "nodeTaintsPolicy" Words(&["Honor", "Ignore"]), CLUSTER;
    ignored "topologyKey" Text, CLUSTER;
    ignored "whenUnsatisfiable" Words(&["DoNotSchedule", "ScheduleAnyway"]), CLUSTER;
}
}
