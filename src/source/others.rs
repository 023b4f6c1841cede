//! Which egress addresses the other namespaces list, by the Kubernetes API.
//!
//! Asked anew at every pod start of a namespace that lists some itself, also where one of them is in use
//! on this node already: another namespace may have listed it since.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;

use super::annotation::{EGRESS_IP, SourcedText};
use super::api::Access;
use super::{PolicyFile, SourceError, egress};
use crate::cluster::{Client, Error, Request};
use crate::store::EgressLists;

/// The name of the snapshot: there is one for all namespaces.
pub(crate) const ALL: &str = "all";

/// How many namespaces one answer has at most.
const PAGE: u32 = 500;

/// Too much was changed since the first page: its snapshot is gone from etcd.
const EXPIRED: u16 = 410;

impl Access<'_> {
    /// What each namespace lists. An exempt one is not asked about when its pods start: of it, the policy
    /// file's list counts, and of all others what the API says. One that is being deleted still counts,
    /// since its pods may still run.
    ///
    /// # Errors
    /// No answer, and none from before that may be used; a refusal.
    pub(super) async fn egress_lists(
        &self,
        client: &Client,
        file: &PolicyFile,
        asking: &str,
    ) -> Result<BTreeMap<String, Vec<IpNet>>, SourceError> {
        let answer = ask(client, asking).await;
        let fresh = answer.is_ok();
        let texts = self.answered(ALL, answer.map(EgressLists))?;
        if fresh {
            self.snapshots.keep(ALL, texts.clone());
        }
        Ok(lists(file, asking, texts.0))
    }
}

/// Every namespace's annotation, as it is. An answer without the namespace that asks is none: it was
/// there a moment ago, and who else is missing is not known.
async fn ask(client: &Client, asking: &str) -> Result<BTreeMap<String, String>, Error> {
    let api = Api::<Namespace>::all(client.kube());
    let request = Request::new("list", "namespaces");
    let mut params = ListParams::default().limit(PAGE);
    let mut texts = BTreeMap::new();
    let mut found = false;
    loop {
        let page = match client
            .ask(request.clone(), api.list_metadata(&params))
            .await
        {
            // Then everything at once, which cannot expire.
            Err(Error::Refused { code: EXPIRED, .. }) if params.continue_token.is_some() => {
                (params, found) = (ListParams::default(), false);
                texts.clear();
                continue;
            }
            answer => answer?,
        };
        for namespace in page.items {
            let Some(name) = namespace.metadata.name else {
                return Err(client.bad_answer(&request, "a namespace in it has no name"));
            };
            found |= name == asking;
            let mut annotations = namespace.metadata.annotations.unwrap_or_default();
            if let Some(text) = annotations.remove(EGRESS_IP) {
                texts.insert(name, text);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None if found => return Ok(texts),
            None => {
                let missing = format!("the namespace {asking} is not in it");
                return Err(client.bad_answer(&request, &missing));
            }
        }
    }
}

/// Reads the lists. One with faults keeps the pods of its own namespace from starting, not others'.
pub(super) fn lists(
    file: &PolicyFile,
    asking: &str,
    texts: BTreeMap<String, String>,
) -> BTreeMap<String, Vec<IpNet>> {
    let is_exempt = |name: &String| file.exempt_namespaces.contains(name);
    let mut lists = file.egress_lists.clone();
    lists.retain(|name, _| is_exempt(name));
    for (name, text) in texts {
        if name == asking || is_exempt(&name) {
            continue;
        }
        let source = format!("namespace {name}[{EGRESS_IP}]");
        match egress::parse(&SourcedText { source, text }) {
            Ok(list) => {
                lists.insert(name, list);
            }
            Err(faults) => tracing::warn!(
                "whether the namespace {asking} lists an egress address of the namespace {name} is not known: {faults}"
            ),
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
apiVersion: egressway.dev/v1alpha1
kind: ClusterEgressPolicy
exemptNamespaces: [kube-system, monitoring]
egressIPs: [203.0.113.0/24]
namespaces:
  kube-system:
    annotations:
      egressway.dev/egress-ip: 203.0.113.200
  moved:
    annotations:
      egressway.dev/egress-ip: 203.0.113.1
"#;

    fn listed(texts: &[(&str, &str)]) -> Vec<String> {
        let file = PolicyFile::parse("f.yaml", FILE).unwrap_or_else(|error| panic!("{error}"));
        let texts = texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        lists(&file, "shop", texts.collect())
            .into_iter()
            .map(|(name, list)| format!("{name} {list:?}"))
            .collect()
    }

    #[test]
    fn of_exempt_namespaces_the_file_counts_and_of_others_the_api() {
        assert_eq!(listed(&[]), ["kube-system [203.0.113.200/32]"]);
        let texts = [
            ("kube-system", "203.0.113.2"),
            ("monitoring", "203.0.113.3"),
            ("moved", "203.0.113.4"),
            ("shop", "203.0.113.5"),
        ];
        assert_eq!(
            listed(&texts),
            ["kube-system [203.0.113.200/32]", "moved [203.0.113.4/32]"]
        );
    }

    #[test]
    fn a_list_with_faults_stops_nobody_else() {
        for faulty in ["", "eth0", "203.0.113.6, 203.0.113.999"] {
            assert_eq!(
                listed(&[("bad", faulty), ("good", "203.0.113.7 203.0.113.8/29")]),
                [
                    "good [203.0.113.7/32, 203.0.113.8/29]",
                    "kube-system [203.0.113.200/32]"
                ]
            );
        }
    }
}
