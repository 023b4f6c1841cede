//! What is wrong with manifests, annotations and policy files, before a cluster sees them.
//!
//! ```text
//! files ── input::Input ── yaml::Document      nodes that know their places
//!              │ objects                        which of them carry rules
//!              ▼
//!         text::Text                            an annotation's value, mapped to the file
//!              │ annotations, policy, tier, services, forged; rules::lint
//!              ▼
//!         finding::Finding
//! ```
//!
//! [`check_all`] is for files. Who has an object's annotations, and no file, asks [`check_annotations`].

use crate::source::annotation;
use rules::fault::Complaint;

mod annotations;
mod context;
mod finding;
mod forged;
mod input;
mod items;
mod keys;
mod kind;
mod objects;
mod policy;
mod services;
#[cfg(test)]
mod tests;
mod text;
mod tier;
mod yaml;

pub use annotations::check_annotations;
pub use context::Context;
pub use finding::Finding;
pub use input::{Input, InputError, STDIN, read, read_all};
pub use keys::Carrier;
pub use kind::{ALL, Kind, Severity, by_id};
pub use policy::find as policy_in;

use finding::Findings;
use text::Text;
use yaml::Documents;

/// Checks all texts together: a namespace in one of them may enforce rules for a pod in another, and these name a
/// Service in a third. Findings, and what was skipped.
///
/// `progress` hears how many bytes are done: each text's twice.
pub fn check_all(
    inputs: &[Input],
    mut context: Context,
    mut progress: impl FnMut(u64),
) -> (Vec<Finding>, Vec<String>) {
    let mut done = 0;
    let mut pass = |input: &Input| {
        done += input.text.len() as u64;
        progress(done);
    };
    let mut read: Vec<(&Input, Documents)> = Vec::new();
    for input in inputs {
        read.push((input, yaml::read(&input.text)));
        pass(input);
    }
    for (input, documents) in &read {
        let file = Text::file(input.text.clone());
        for document in &documents.documents {
            let enforced = objects::enforced(&input.name, document);
            context.namespaces.extend(enforced);
            context.services.learn(document);
            if context.ignoring.is_none() && forged::is_ignored(&file, document) {
                context.ignoring = Some(input.name.clone());
            }
        }
    }
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    for (input, documents) in &read {
        findings.extend(check(input, documents, &context, &mut notes));
        pass(input);
    }
    (findings, notes)
}

fn check(
    input: &Input,
    documents: &Documents,
    context: &Context,
    notes: &mut Vec<String>,
) -> Vec<Finding> {
    let file = Text::file(input.text.clone());
    let mut findings = Findings::new(&input.name, &file);
    for (index, document) in documents.documents.iter().enumerate() {
        forged::check(&mut findings, &file, document);
        let is_object = objects::check(&mut findings, context, &file, document);
        if !is_object && !forged::is_conflist(document) {
            notes.push(format!(
                "{}: document {} has no Kubernetes object: skipped",
                input.name,
                index + 1
            ));
        }
    }
    if let Some(error) = &documents.error {
        // At the file's end there is nothing to point at: behind the last character is.
        let at = error.byte.min(input.text.trim_end().len());
        // Other files, such as JSON with comments, are not ours to judge.
        if !["apiVersion", annotation::PREFIX]
            .iter()
            .any(|word| input.text.contains(word))
        {
            notes.push(format!("{}: neither YAML nor JSON: skipped", input.name));
        } else if input.text.contains("{{") {
            let complaint =
                Complaint::new("this is a template, not YAML: nothing from here on was checked")
                    .help("check what comes out: `helm template . | egressway lint -`");
            findings.add(&kind::TEMPLATE, (at, at), complaint);
        } else {
            let complaint = Complaint::new(error.message.clone());
            findings.add(&kind::YAML_SYNTAX, (at, at), complaint);
        }
    }
    findings.finish()
}
