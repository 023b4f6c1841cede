//! The few calls of the Container Runtime Interface that make and remove a pod, as kubelet sends them.
//! Field numbers: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.

use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    pub log_directory: String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

/// RunPodSandbox's answer, and all that the two others ask.
#[derive(Clone, PartialEq, Message)]
struct SandboxId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// A runtime's socket.
#[derive(Debug)]
pub struct Runtime {
    socket: String,
}

impl Runtime {
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: format!("unix://{}", socket.display()),
        }
    }

    /// Whether the runtime answers and its network is there.
    pub fn answers(&self) -> bool {
        self.call::<_, Empty>("Version", Empty {}).is_ok()
    }

    /// Makes a pod's sandbox, with its network. Returns its ID, or the runtime's message.
    pub fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, String> {
        let config = Some(config);
        self.call("RunPodSandbox", RunPodSandboxRequest { config })
            .map(|answer: SandboxId| answer.id)
    }

    pub fn stop_pod_sandbox(&self, id: &str) -> Result<(), String> {
        let id = id.to_owned();
        self.call("StopPodSandbox", SandboxId { id })
            .map(|Empty {}| ())
    }

    pub fn remove_pod_sandbox(&self, id: &str) -> Result<(), String> {
        let id = id.to_owned();
        self.call("RemovePodSandbox", SandboxId { id })
            .map(|Empty {}| ())
    }

    fn call<Q, A>(&self, method: &str, question: Q) -> Result<A, String>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let endpoint = Endpoint::from_shared(self.socket.clone()).map_err(|e| e.to_string())?;
            let channel: Channel = endpoint
                .timeout(crate::harness::exec::seconds(120))
                .connect()
                .await
                .map_err(|e| format!("{e:?}"))?;
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.map_err(|e| e.to_string())?;
            let path = format!("/runtime.v1.RuntimeService/{method}");
            let path = PathAndQuery::try_from(path).map_err(|e| e.to_string())?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = grpc.unary(tonic::Request::new(question), path, codec).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| status.message().to_owned())
        })
    }
}
