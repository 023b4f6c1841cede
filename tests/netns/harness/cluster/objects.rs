//! Objects, tokens and kubeconfigs, as an administrator makes them.

use super::{ADDRESS, ApiServer, PORT};
use crate::harness::Netns;
use kube::Config;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::core::{ApiResource, GroupVersionKind, Request, TypeMeta};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

impl ApiServer {
    /// Runs `f` with an administrator's client.
    pub fn with_client<T: Send>(&self, f: impl AsyncFnOnce(kube::Client) -> T + Send) -> T {
        with_kubeconfig(&self.netns, &self.admin_kubeconfig(), f)
    }

    fn admin_kubeconfig(&self) -> String {
        let file = |name: &str| self.dir.path().join(name);
        let user =
            json!({"client-certificate": file("admin.crt"), "client-key": file("admin.key")});
        kubeconfig_text(&file("ca.crt"), PORT, &user)
    }

    /// Whether the server is up and its first objects are there.
    pub(super) fn ready(&self) -> bool {
        self.with_client(async |client| {
            let request = Request::new("").get("readyz", &Default::default());
            client
                .request_text(request.expect("a request"))
                .await
                .is_ok()
        })
    }

    /// Makes an object. `object` has apiVersion, kind and metadata.
    pub fn create(&self, object: &Value) -> Value {
        self.objects(object, async |api, object| {
            api.create(&PostParams::default(), &object).await
        })
    }

    /// Makes the object or changes the fields that are given, as `kubectl apply --server-side` does.
    pub fn apply(&self, object: &Value) -> Value {
        self.objects(object, async |api, object| {
            let name = object.metadata.name.clone().expect("a name");
            let params = PatchParams::apply("tests").force();
            api.patch(&name, &params, &Patch::Apply(&object)).await
        })
    }

    /// Changes fields; those that are null go. `object` names it and has the new values.
    pub fn merge(&self, object: &Value) -> Value {
        let named = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {
                "name": object["metadata"]["name"],
                "namespace": object["metadata"]["namespace"],
            },
        });
        self.objects(&named, async |api, named| {
            let name = named.metadata.name.clone().expect("a name");
            api.patch(&name, &PatchParams::default(), &Patch::Merge(object))
                .await
        })
    }

    /// Reads an object, of which apiVersion, kind and metadata are given.
    pub fn get(&self, object: &Value) -> Option<Value> {
        let api_object = dynamic(object);
        self.with_client(async move |client| {
            let name = api_object.metadata.name.clone().expect("a name");
            api(client, &api_object)
                .get_opt(&name)
                .await
                .unwrap_or_else(|e| panic!("get {name}: {e}"))
        })
        .map(value)
    }

    /// Reads all objects of a kind, in the namespace that `object` names or in all.
    pub fn list(&self, object: &Value) -> Vec<Value> {
        let api_object = dynamic(object);
        let list = self.with_client(async move |client| {
            api(client, &api_object)
                .list(&ListParams::default())
                .await
                .unwrap_or_else(|e| panic!("list: {e}"))
        });
        list.items.into_iter().map(value).collect()
    }

    /// Removes an object at once. A Namespace only begins to go: there is no controller to empty it.
    pub fn delete(&self, object: &Value) {
        let api_object = dynamic(object);
        self.with_client(async move |client| {
            let name = api_object.metadata.name.clone().expect("a name");
            api(client, &api_object)
                .delete(&name, &DeleteParams::default().grace_period(0))
                .await
                .map(drop)
                .unwrap_or_else(|e| panic!("delete {name}: {e}"));
        });
    }

    /// A Kubernetes namespace with annotations.
    pub fn namespace(&self, name: &str, annotations: &Value) -> Value {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "annotations": annotations},
        }))
    }

    /// A new token of a service account, good for an hour.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let body =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let request = Request::new(path)
            .create_subresource(
                "token",
                account,
                &PostParams::default(),
                body.to_string().into(),
            )
            .expect("a request");
        let answer: Value = self
            .with_client(async move |client| client.request(request).await)
            .unwrap_or_else(|e| panic!("a token for {namespace}/{account}: {e}"));
        let token = answer["status"]["token"].as_str();
        token.expect("a token").to_owned()
    }

    /// Writes `kubeconfig`, `token` and `ca.crt` into `dir`, as `egressway install` lays them out.
    /// Returns the kubeconfig's path.
    pub fn kubeconfig(&self, dir: &Path, token: &str) -> PathBuf {
        self.kubeconfig_to(dir, token, PORT)
    }

    /// The same, to a port of the server's address. No other port than `PORT` has a listener.
    pub fn kubeconfig_to(&self, dir: &Path, token: &str, port: u16) -> PathBuf {
        fs::create_dir_all(dir).expect("make a directory");
        let ca = dir.join("ca.crt");
        fs::copy(self.dir.path().join("ca.crt"), &ca).expect("copy the authority");
        let token_file = dir.join("token");
        write_secret(&token_file, token);
        let path = dir.join("kubeconfig");
        write_secret(
            &path,
            &kubeconfig_text(&ca, port, &json!({"tokenFile": token_file})),
        );
        path
    }

    /// Puts the certificate of an authority into `dir` that did not sign the server's.
    pub fn wrong_authority(&self, dir: &Path) {
        super::pki::stranger(&dir.join("ca.crt"));
    }

    fn objects(
        &self,
        object: &Value,
        f: impl AsyncFnOnce(Api<DynamicObject>, DynamicObject) -> kube::Result<DynamicObject> + Send,
    ) -> Value {
        let dynamic = dynamic(object);
        self.with_client(async move |client| f(api(client, &dynamic), dynamic).await)
            .map(value)
            .unwrap_or_else(|e| panic!("{e}\n{object:#}"))
    }
}

/// Runs `f` in `netns`, with a client made from a kubeconfig's text.
pub fn with_kubeconfig<T: Send>(
    netns: &Netns,
    kubeconfig: &str,
    f: impl AsyncFnOnce(kube::Client) -> T + Send,
) -> T {
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
                .await
                .expect("a configuration");
            f(kube::Client::try_from(config).expect("a client")).await
        })
    })
}

fn dynamic(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}\n{object:#}"))
}

fn value(object: DynamicObject) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

fn api(client: kube::Client, object: &DynamicObject) -> Api<DynamicObject> {
    let TypeMeta { api_version, kind } = object.types.as_ref().expect("apiVersion and kind");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    // Server-side apply refuses an object without its kind, and `plural` is guessed as usual.
    let resource = ApiResource::from_gvk(&kind);
    match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

fn kubeconfig_text(ca: &Path, port: u16, user: &Value) -> String {
    let server = format!("https://{ADDRESS}:{port}");
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    })
    .to_string()
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("write a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set a file's mode");
}
