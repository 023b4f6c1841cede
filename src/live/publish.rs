//! Writes the view down for pods that start, so that these need not ask the API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::view::{Object, View};
use crate::source::annotation::EGRESS_IP;
use crate::source::known::Annotations;
use crate::store::{
    EgressLists, NamespaceAnswer, NodeView, PodAnswer, ServiceAnswer, StateDir, StateError,
};

/// The name of the document about all namespaces' egress addresses.
pub(crate) use crate::source::ALL_NAMESPACES;

/// What has been written, so that only what is new is written again.
#[derive(Default)]
struct Written {
    namespaces: BTreeMap<String, Arc<Annotations>>,
    pods: BTreeMap<String, Arc<Annotations>>,
    names: BTreeMap<String, ServiceAnswer>,
    lists: Option<BTreeMap<String, String>>,
}

/// The view of this run of the agent.
pub struct Publisher {
    state: StateDir,
    view: Option<(NodeView, Written)>,
}

impl Publisher {
    /// Nothing is written until all is known.
    pub fn new(state: StateDir) -> Publisher {
        Publisher { state, view: None }
    }

    /// Writes what is new since the last call.
    ///
    /// # Errors
    /// The system refuses: then all is written anew with the next call, and meanwhile there is no sign of life.
    pub fn publish(&mut self, known: &Mutex<View>) -> Result<(), StateError> {
        let now = {
            let view = known.lock().unwrap_or_else(PoisonError::into_inner);
            match view.is_whole() {
                true => Now::of(&view),
                false => return Ok(()),
            }
        };
        let (view, mut written) = match self.view.take() {
            Some(before) => before,
            None => (self.state.new_view()?, Written::default()),
        };
        now.write(&view, &mut written)?;
        self.view = Some((view, written));
        Ok(())
    }

    /// Says that what was written is what is known.
    ///
    /// # Errors
    /// The system refuses.
    pub fn sign(&mut self) -> Result<(), StateError> {
        match &self.view {
            Some((view, _)) => view.sign(),
            None => Ok(()),
        }
    }
}

/// What is known at one moment.
struct Now {
    namespaces: BTreeMap<String, Arc<Annotations>>,
    pods: BTreeMap<String, Object>,
    names: BTreeMap<String, ServiceAnswer>,
    lists: BTreeMap<String, String>,
}

impl Now {
    fn of(view: &View) -> Now {
        let namespaces = view.namespaces();
        let namespaces: BTreeMap<_, _> = namespaces
            .map(|object| (object.name.clone(), Arc::clone(&object.annotations)))
            .collect();
        let lists = namespaces.iter().filter_map(|(name, annotations)| {
            let text = annotations.get(EGRESS_IP)?;
            Some((name.clone(), text.clone()))
        });
        let names = view.names().iter().filter_map(|(name, behind)| {
            let behind = behind.as_ref()?;
            Some((name.to_string(), behind.clone()))
        });
        Now {
            lists: lists.collect(),
            names: names.collect(),
            pods: view
                .pods()
                .map(|(uid, pod)| (uid.clone(), pod.clone()))
                .collect(),
            namespaces,
        }
    }

    fn write(self, view: &NodeView, written: &mut Written) -> Result<(), StateError> {
        for name in written.names.keys() {
            if !self.names.contains_key(name) {
                view.forget::<ServiceAnswer>(name)?;
            }
        }
        for uid in written.pods.keys() {
            if !self.pods.contains_key(uid) {
                view.forget::<PodAnswer>(uid)?;
            }
        }
        for (name, behind) in &self.names {
            if written.names.get(name) != Some(behind) {
                view.tell(name, behind.clone())?;
            }
        }
        // Before the namespaces: who reads one of these finds lists that are no older.
        if written.lists.as_ref() != Some(&self.lists) {
            view.tell(ALL_NAMESPACES, EgressLists(self.lists.clone()))?;
        }
        for (name, annotations) in &self.namespaces {
            if written.namespaces.get(name) != Some(annotations) {
                view.tell(name, NamespaceAnswer((**annotations).clone()))?;
            }
        }
        for (uid, pod) in &self.pods {
            if written.pods.get(uid) != Some(&pod.annotations) {
                let answer = PodAnswer {
                    namespace: pod.namespace.clone().unwrap_or_default(),
                    name: pod.name.clone(),
                    annotations: (*pod.annotations).clone(),
                };
                view.tell(uid, answer)?;
            }
        }
        let pods = self.pods.into_iter();
        *written = Written {
            namespaces: self.namespaces,
            pods: pods.map(|(uid, pod)| (uid, pod.annotations)).collect(),
            names: self.names,
            lists: Some(self.lists),
        };
        Ok(())
    }
}
