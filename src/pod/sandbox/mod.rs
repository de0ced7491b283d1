//! The pause container that holds a pod's namespaces, and the pod's cgroup.
