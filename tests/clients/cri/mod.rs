//! Kubernetes pods: containerd's CRI plugin with carob as its runtime, asked as a kubelet asks it.

mod client;
mod messages;
mod pods;
mod stream;
mod streams;
