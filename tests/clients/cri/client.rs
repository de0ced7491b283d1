//! A client of the CRI: what a kubelet asks of containerd, one call after the other.

use super::messages::*;
use super::stream::Channels;
use crate::containerd::Containerd;
use crate::image::BUSYBOX;
use crate::yard::{LIMIT, wait};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

/// A connection to containerd's socket.
#[derive(Debug)]
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    network: PathBuf,
}

impl Cri {
    pub fn connect(on: &Containerd) -> Self {
        let socket = on.yard.path("/run/containerd/containerd.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is of no matter for a connector that has its own.
        let endpoint = Endpoint::from_static("http://localhost").timeout(LIMIT);
        let channel = runtime.block_on(endpoint.connect_with_connector(connector)).unwrap();
        let this = Self { runtime, channel, network: on.yard.network() };
        // The plugin is ready somewhat after the daemon.
        wait("the CRI plugin", || {
            this.ask::<_, List>("ListPodSandbox", Empty {}).map_err(|e| e.message().to_owned())
        });
        this
    }

    /// One call of the runtime service.
    pub fn ask<Q, A>(&self, method: &str, question: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path = PathAndQuery::try_from(path).unwrap();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(grpc.unary(tonic::Request::new(question), path, codec).await?.into_inner())
        })
    }

    /// As [`Cri::ask`]; fails the test unless it succeeds.
    #[track_caller]
    pub fn get<Q, A>(&self, method: &str, question: Q) -> A
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.ask(method, question).unwrap_or_else(|e| panic!("{method}: {e:?}"))
    }

    /// Makes a sandbox for what `edit` changes of a plain pod.
    #[track_caller]
    pub fn pod(&self, name: &str, edit: impl FnOnce(&mut PodConfig)) -> Pod<'_> {
        let mut config = plain_pod(name);
        edit(&mut config);
        let question =
            RunPodSandbox { config: Some(config.clone()), runtime_handler: "carob".into() };
        let PodId { id } = self.get("RunPodSandbox", question);
        Pod { cri: self, id, config }
    }

    pub fn stop_container(&self, id: &str, timeout: i64) {
        let _: Empty = self.get("StopContainer", StopContainer { id: id.into(), timeout });
    }

    pub fn remove_container(&self, id: &str) {
        let _: Empty = self.get("RemoveContainer", ContainerId { id: id.into() });
    }

    #[track_caller]
    pub fn status(&self, id: &str) -> ContainerStatus {
        let question = ContainerId { id: id.into() };
        self.get::<_, ContainerStatusResponse>("ContainerStatus", question).status.unwrap()
    }

    /// Waits until the container has ended.
    #[track_caller]
    pub fn ended(&self, id: &str) -> ContainerStatus {
        wait("the container's end", || match self.status(id) {
            status if status.state == EXITED => Ok(status),
            status => Err(format!("{status:?}")),
        })
    }

    /// Runs `script` in the container; its exit code and standard output.
    #[track_caller]
    pub fn sh(&self, id: &str, script: &str) -> (i32, String) {
        let command = strings(&["sh", "-c", script]);
        let question = ExecSync { id: id.into(), command, timeout: 60 };
        let answer: ExecSyncResponse = self.get("ExecSync", question);
        (answer.exit_code, String::from_utf8_lossy(&answer.stdout).trim_end().to_owned())
    }

    /// Opens the stream behind the address that `method` gives.
    pub fn stream<Q>(&self, method: &str, question: Q) -> Channels
    where
        Q: prost::Message + Send + Sync + 'static,
    {
        let Url { url } = self.get(method, question);
        Channels::open(&url, &self.network)
    }

    pub fn count(&self, method: &str) -> usize {
        self.get::<_, List>(method, Empty {}).items.len()
    }
}

/// A sandbox and the configuration that it has been made with.
#[derive(Debug)]
pub struct Pod<'c> {
    pub cri: &'c Cri,
    pub id: String,
    pub config: PodConfig,
}

impl Pod<'_> {
    /// Makes a container for what `edit` changes of a sleeping one.
    pub fn create(&self, name: &str, edit: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = plain_container(name);
        edit(&mut config);
        let question = CreateContainer {
            pod: self.id.clone(),
            config: Some(config),
            pod_config: Some(self.config.clone()),
        };
        self.cri.get::<_, ContainerId>("CreateContainer", question).id
    }

    /// Makes a container and starts it.
    pub fn run(&self, name: &str, edit: impl FnOnce(&mut ContainerConfig)) -> String {
        let id = self.create(name, edit);
        let _: Empty = self.cri.get("StartContainer", ContainerId { id: id.clone() });
        id
    }

    /// A container that runs `script`.
    pub fn run_sh(&self, name: &str, script: &str) -> String {
        self.run(name, |c| c.command = strings(&["sh", "-c", script]))
    }

    pub fn status(&self) -> PodStatus {
        let question = PodId { id: self.id.clone() };
        self.cri.get::<_, PodStatusResponse>("PodSandboxStatus", question).status.unwrap()
    }

    /// Stops and removes it with all containers.
    pub fn remove(&self) {
        let _: Empty = self.cri.get("StopPodSandbox", PodId { id: self.id.clone() });
        let _: Empty = self.cri.get("RemovePodSandbox", PodId { id: self.id.clone() });
    }
}

pub fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn plain_pod(name: &str) -> PodConfig {
    PodConfig {
        metadata: Some(PodMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
        }),
        hostname: name.into(),
        log_directory: format!("/var/log/pods/{name}"),
        linux: Some(LinuxPod {
            cgroup_parent: format!("/kubepods/pod-{name}"),
            security: Some(PodSecurity {
                namespaces: Some(namespaces()),
                seccomp: Some(SecurityProfile { kind: RUNTIME_DEFAULT }),
            }),
            sysctls: Map::new(),
        }),
    }
}

/// What a kubelet sends for a pod without wishes of its own.
pub fn namespaces() -> NamespaceOption {
    NamespaceOption { network: POD, pid: CONTAINER, ipc: POD, user: None }
}

fn plain_container(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into() }),
        image: Some(ImageSpec { image: BUSYBOX.into() }),
        command: strings(&["sleep", "1000"]),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainer {
            resources: Some(Resources { cpu_shares: 102, oom_score_adj: 999, ..<_>::default() }),
            security: Some(ContainerSecurity {
                namespaces: Some(namespaces()),
                masked_paths: strings(&["/proc/kcore", "/proc/keys"]),
                seccomp: Some(SecurityProfile { kind: RUNTIME_DEFAULT }),
                ..<_>::default()
            }),
        }),
        ..<_>::default()
    }
}

impl ContainerConfig {
    pub fn resources(&mut self) -> &mut Resources {
        self.linux.get_or_insert_default().resources.get_or_insert_default()
    }

    pub fn security(&mut self) -> &mut ContainerSecurity {
        self.linux.get_or_insert_default().security.get_or_insert_default()
    }
}

impl PodConfig {
    pub fn namespaces(&mut self) -> &mut NamespaceOption {
        let security = self.linux.get_or_insert_default().security.get_or_insert_default();
        security.namespaces.get_or_insert_default()
    }
}
