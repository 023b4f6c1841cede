//! Events: what `kubectl describe` tells people of an object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use sha2::{Digest, Sha256};

use super::{Client, Error, Request};

/// Bytes of a note (`pkg/apis/core/validation/events.go`).
const NOTE: usize = 1024;

/// Who tells.
const CONTROLLER: &str = "egressway.dev/agent";

/// How an Event is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something that should be.
    Normal,
    /// Something that somebody should look at.
    Warning,
}

/// What is to be told.
#[derive(Debug, Clone)]
pub struct Note {
    /// About which object, with its UID.
    pub regarding: ObjectReference,
    /// How it is meant.
    pub tone: Tone,
    /// One word, in UpperCamelCase.
    pub reason: &'static str,
    /// What was done or tried, in UpperCamelCase.
    pub action: &'static str,
    /// One sentence.
    pub note: String,
}

/// Makes an Event. The same one of the same node is made once for as long as the API keeps it, an hour
/// by default.
///
/// # Errors
/// The API does not answer, or refuses.
pub async fn post(client: &Client, node: &str, note: &Note) -> Result<(), Error> {
    let namespace = note.regarding.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.kube(), namespace);
    let event = event(node, namespace, note);
    let request = Request::new("create", "events.events.k8s.io").within(namespace);
    let made = async {
        match api.create(&PostParams::default(), &event).await {
            // It was told before.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            answer => answer.map(drop),
        }
    };
    client.ask(request, made).await
}

fn event(node: &str, namespace: &str, note: &Note) -> Event {
    let said = format!("node {node}: {}", note.note);
    let object = note.regarding.name.as_deref().unwrap_or_default();
    let uid = note.regarding.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{}\0{uid}\0{said}", note.reason).as_bytes());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{}", crate::hex::hex(&digest[..8]))),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        regarding: Some(note.regarding.clone()),
        type_: Some(format!("{:?}", note.tone)),
        reason: Some(note.reason.to_owned()),
        action: Some(note.action.to_owned()),
        note: Some(shortened(&said)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

fn shortened(note: &str) -> String {
    let end = note.floor_char_boundary(NOTE);
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_fit_into_an_event() {
        let long = "é".repeat(1000);
        assert!(shortened(&long).len() <= NOTE);
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn an_event_has_a_name_of_its_content() {
        let note = |uid: &str, text: &str| Note {
            regarding: ObjectReference {
                name: Some("policy".to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            },
            tone: Tone::Warning,
            reason: "PolicyInvalid",
            action: "WritePolicy",
            note: text.to_owned(),
        };
        let name = |node: &str, note: &Note| event(node, "ns", note).metadata.name;
        let first = name("a", &note("1", "x"));
        assert!(
            first
                .as_ref()
                .is_some_and(|name| name.starts_with("policy."))
        );
        assert_eq!(first, name("a", &note("1", "x")));
        for other in [
            name("b", &note("1", "x")),
            name("a", &note("2", "x")),
            name("a", &note("1", "y")),
        ] {
            assert_ne!(first, other);
        }
    }
}
