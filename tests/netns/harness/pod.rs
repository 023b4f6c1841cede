//! Pods, made through a chain of plugins exactly as libcni runs one.

use super::cni::{self, Attachment, Call, CniError, PluginRun};
use super::primary::{calico_add, calico_link};
use super::{Echo, Netns, Node, Primary};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

static CONTAINERS: AtomicU32 = AtomicU32::new(0);

/// What a pod shall be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub namespace: String,
    pub name: String,
    pub annotations: Map<String, Value>,
    pub primary: Primary,
    /// The primary's `ipMasq`.
    pub masquerade: bool,
    /// Plugins between the primary and ours, with their `runtimeConfig`.
    pub between: Vec<(Value, Value)>,
    /// Whether our plugin is in the chain.
    pub covered: bool,
    pub version: String,
    /// `K8S_POD_UID`, if it is to be that of an object.
    pub uid: Option<String>,
}

impl PodSpec {
    pub fn new(name: &str, primary: Primary) -> Self {
        Self {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            annotations: Map::new(),
            primary,
            masquerade: false,
            between: Vec::new(),
            covered: true,
            version: "1.0.0".to_owned(),
            uid: None,
        }
    }

    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The pod's own rules.
    pub fn rules(self, rules: &str) -> Self {
        self.annotation("egressway.dev/rules", rules)
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), json!(value));
        self
    }

    pub fn masquerade(mut self) -> Self {
        self.masquerade = true;
        self
    }

    pub fn between(mut self, conf: Value, runtime: Value) -> Self {
        self.between.push((conf, runtime));
        self
    }

    /// Leaves our plugin out of the chain.
    pub fn uncovered(mut self) -> Self {
        self.covered = false;
        self
    }

    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }
}

/// One plugin of a pod's chain.
#[derive(Debug, Clone)]
struct Link {
    plugin: String,
    conf: Map<String, Value>,
    runtime: Option<Value>,
}

/// Why a pod could not be made: the plugin that failed and what it said.
#[derive(Debug)]
pub struct AddError {
    pub plugin: String,
    pub error: CniError,
}

/// A pod: its namespace and what the runtime knows about it.
#[derive(Debug)]
pub struct Pod<'n> {
    pub node: &'n Node,
    pub netns: Netns,
    pub spec: PodSpec,
    pub who: Attachment,
    pub v4: IpAddr,
    pub v6: IpAddr,
    pub mac: String,
    /// The host's end of the pod's veth; empty where there is none.
    pub veth: String,
    /// What our plugin got as prevResult.
    pub prev_result: String,
    chain: Vec<Link>,
}

impl Node {
    /// Makes a pod that must come up.
    pub fn pod(&self, spec: PodSpec) -> Pod<'_> {
        let name = spec.name.clone();
        self.add_pod(spec)
            .unwrap_or_else(|e| panic!("pod {name}: {e:?}\n{}", self.describe()))
    }

    /// Makes a pod. If a plugin fails, the whole chain gets its DEL without a prevResult, as containerd sends it.
    pub fn add_pod(&self, spec: PodSpec) -> Result<Pod<'_>, AddError> {
        let serial = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let netns = Netns::new(&spec.name);
        let who = container(&spec, &netns, serial);
        let chain = self.chain(&spec);
        let mut result = None;
        if spec.primary == Primary::Calico {
            result = Some(calico_add(
                self,
                &netns,
                &format!("cali{serial:07x}"),
                &spec.version,
            ));
        }
        let mut prev_result = result.clone().unwrap_or_default();
        for link in &chain {
            let run = link
                .call("ADD", &spec.version, &who, result.as_deref())
                .run(&self.netns);
            if !run.succeeded() {
                for link in chain.iter().rev() {
                    let del = link.call("DEL", &spec.version, &who, None).run(&self.netns);
                    del.ok();
                }
                return Err(AddError {
                    plugin: link.plugin.clone(),
                    error: run.error(),
                });
            }
            if link.plugin == "egressway" {
                prev_result = result.unwrap_or_default();
            }
            result = Some(link.result(run.ok(), &spec.version));
        }
        if !spec.covered {
            prev_result = result.unwrap_or_default();
        }
        // The node itself does not reach a pod on macvlan.
        if spec.primary != Primary::Macvlan {
            self.joined_by(&netns);
        }
        let mut pod = Pod {
            node: self,
            v4: IpAddr::from([0; 4]),
            v6: IpAddr::from([0; 16]),
            mac: String::new(),
            veth: String::new(),
            netns,
            spec,
            who,
            prev_result,
            chain,
        };
        pod.look();
        Ok(pod)
    }

    fn chain(&self, spec: &PodSpec) -> Vec<Link> {
        let mut chain = Vec::new();
        let mut push = |conf: Map<String, Value>, runtime: Option<Value>| {
            let plugin = conf["type"].as_str().expect("a plugin's type").to_owned();
            chain.push(Link {
                plugin,
                conf,
                runtime,
            });
        };
        if let Some(conf) = spec.primary.conf(self, spec.masquerade) {
            push(conf, None);
        }
        for (conf, runtime) in &spec.between {
            push(
                conf.as_object().expect("a plugin's configuration").clone(),
                Some(runtime.clone()),
            );
        }
        if spec.covered {
            push(
                self.ours.clone(),
                Some(json!({cni::POD_ANNOTATIONS: spec.annotations})),
            );
        }
        chain
    }
}

/// A container of the pod, as the runtime names it.
fn container(spec: &PodSpec, netns: &Netns, serial: u32) -> Attachment {
    let container_id = format!("{:08x}{serial:056x}", std::process::id());
    let uid = spec.uid.clone().unwrap_or_else(|| format!("uid-{serial}"));
    Attachment {
        args: format!(
            "K8S_POD_INFRA_CONTAINER_ID={container_id};K8S_POD_UID={uid};IgnoreUnknown=1;\
             K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
            spec.namespace, spec.name
        ),
        container_id,
        netns: netns.path(),
        ifname: "eth0".to_owned(),
    }
}

impl Link {
    /// Debian's reference plugins end at CNI 1.0.0; for 1.1.0 they run as 1.0.0, whose results are the same.
    fn version<'a>(&self, version: &'a str) -> &'a str {
        if version == "1.1.0" && self.plugin != "egressway" {
            "1.0.0"
        } else {
            version
        }
    }

    fn call(&self, verb: &str, version: &str, who: &Attachment, prev_result: Option<&str>) -> Call {
        let version = self.version(version);
        // 1.0.0 plugins refuse a newer result.
        let prev = prev_result.map(|prev| with_version(prev, version));
        cni::call(
            &self.plugin,
            verb,
            who,
            cni::stdin(&self.conf, version, self.runtime.as_ref(), prev.as_deref()),
        )
    }

    fn result(&self, text: String, version: &str) -> String {
        if self.version(version) == version {
            text
        } else {
            with_version(&text, version)
        }
    }
}

/// The result with its version replaced, where it differs.
fn with_version(result: &str, version: &str) -> String {
    let mut value: Value =
        serde_json::from_str(result).unwrap_or_else(|e| panic!("a result: {e}: {result:?}"));
    if value["cniVersion"] == version {
        return result.to_owned();
    }
    value["cniVersion"] = json!(version);
    value.to_string()
}

impl Pod<'_> {
    /// Reads addresses and links from the kernel, which knows better than any result.
    fn look(&mut self) {
        let link = &self.netns.ip_json("addr show dev eth0")[0];
        self.mac = link["address"]
            .as_str()
            .expect("a hardware address")
            .to_owned();
        for info in link["addr_info"].as_array().expect("addresses") {
            if info["scope"] != "global" {
                continue;
            }
            let address: IpAddr = super::node::ip(info["local"].as_str().expect("an address"));
            match address {
                IpAddr::V4(_) => self.v4 = address,
                IpAddr::V6(_) => self.v6 = address,
            }
        }
        if self.spec.primary == Primary::Macvlan {
            return;
        }
        let peer = &link["link_index"];
        let links = self.node.netns.ip_json("link show");
        let host = links
            .as_array()
            .expect("links")
            .iter()
            .find(|l| &l["ifindex"] == peer);
        self.veth = host.expect("the host's end of the veth")["ifname"]
            .as_str()
            .expect("a name")
            .to_owned();
    }

    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4, self.v6]
    }

    /// Servers on the pod's addresses.
    pub fn serve(&self, ports: &[u16]) -> Echo {
        Echo::start(&self.netns, &self.addresses(), ports)
    }

    /// A call of our plugin for this pod, with prevResult, as the runtime would make it.
    pub fn call(&self, verb: &str) -> Call {
        self.call_with(verb, &self.spec.annotations, Some(&self.prev_result))
    }

    /// A call of our plugin with other annotations or another prevResult.
    pub fn call_with(
        &self,
        verb: &str,
        annotations: &Map<String, Value>,
        prev_result: Option<&str>,
    ) -> Call {
        let runtime = json!({cni::POD_ANNOTATIONS: annotations});
        let stdin = cni::stdin(
            &self.node.ours,
            &self.spec.version,
            Some(&runtime),
            prev_result,
        );
        cni::call("egressway", verb, &self.who, stdin)
    }

    /// Runs our plugin for this pod.
    pub fn ours(&self, verb: &str) -> PluginRun {
        self.call(verb).run(&self.node.netns)
    }

    /// Another container takes over name, addresses and veth's name of a Calico-like pod. No plugin
    /// is called.
    pub fn start_again(&mut self) {
        let serial = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        self.who = container(&self.spec, &self.netns, serial);
        self.link_anew();
    }

    /// A Calico-like pod gets another interface of the same name, with the same addresses.
    pub fn link_anew(&self) {
        assert_eq!(self.spec.primary, Primary::Calico);
        self.node.netns.ip(&format!("link del {}", self.veth));
        let [v4, v6] = self.addresses().map(|address| address.to_string());
        calico_link(self.node, &self.netns, &self.veth, &v4, &v6);
    }

    /// ADD of the same attachment with new rules of the pod.
    pub fn readd(&mut self, rules: &str) {
        self.spec = self.spec.clone().rules(rules);
        self.ours("ADD").ok();
    }

    /// DEL through the whole chain in reverse; every plugin must succeed. The namespace goes too.
    pub fn delete(self) {
        let version = &self.spec.version;
        // Since 0.4.0, a runtime hands DEL the result of the ADD.
        let prev = (!["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&version.as_str()))
            .then_some(&*self.prev_result);
        for link in self.chain.iter().rev() {
            link.call("DEL", version, &self.who, prev)
                .run(&self.node.netns)
                .ok();
        }
        if self.spec.primary == Primary::Calico {
            self.node.netns.ip(&format!("link del {}", self.veth));
        }
    }

    /// The name that our state of this attachment carries everywhere.
    pub fn id(&self) -> String {
        super::ruleset::attachment_id(&self.who)
    }
}
