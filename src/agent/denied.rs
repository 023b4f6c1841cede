//! Tells a pod's owner when a rule denies it something for the first time in an hour.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Resource;

use super::verdicts::denials::First;
use super::{Context, Error};
use crate::verdicts::Line;
use crate::verdicts::node::Deny;

/// So many are told at once, and so many more each minute: the API keeps every one for an hour.
const BUCKET: u32 = 20;
const REFILLED: Duration = Duration::from_secs(60);

/// What is left to be told.
#[derive(Debug)]
struct Bucket {
    left: u32,
    refilled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.refilled) >= REFILLED {
            *self = Bucket {
                left: BUCKET,
                refilled: now,
            };
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

/// Tells for ever.
pub(super) async fn tell(context: Context, mut first: First) -> Error {
    let mut bucket = Bucket {
        left: BUCKET,
        refilled: Instant::now(),
    };
    while let Some(line) = first.recv().await {
        let Some(regarding) = regarding(&context, &line) else {
            continue;
        };
        if !bucket.take(Instant::now()) {
            tracing::debug!("more denials than Events in a minute");
            continue;
        }
        let teller = &context.teller;
        teller.warn(regarding, "EgressDenied", "EvaluateEgress", note(&line));
    }
    Error::Worker // whoever reads the log has ended
}

/// The pod as the API has it. `kubectl describe` finds Events by the UID.
fn regarding(context: &Context, line: &Line) -> Option<ObjectReference> {
    let uid = context.pods.uid(line.pod_uid.as_deref()?)?;
    Some(ObjectReference {
        api_version: Some(Pod::api_version(&()).into_owned()),
        kind: Some(Pod::kind(&()).into_owned()),
        namespace: line.namespace.clone(),
        name: line.pod.clone(),
        uid: Some(uid),
        ..ObjectReference::default()
    })
}

fn note(line: &Line) -> String {
    let to = Deny::of(line).to();
    let pod = line.pod.as_deref().unwrap_or_default();
    let namespace = line.namespace.as_deref().unwrap_or_default();
    format!(
        "denied a packet to {to} by {}; on the node, `egressway explain {namespace}/{pod} {to}` says why",
        line.rule
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdicts::test_support::line;

    #[test]
    fn no_more_are_told_than_the_bucket_has() {
        let now = Instant::now();
        let mut bucket = Bucket {
            left: BUCKET,
            refilled: now,
        };
        let taken = |bucket: &mut Bucket, now| (0..1000).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, now), 20);
        assert_eq!(taken(&mut bucket, now + REFILLED / 2), 0);
        assert_eq!(taken(&mut bucket, now + REFILLED), 20);
        assert_eq!(taken(&mut bucket, now + 60 * REFILLED), 20);
    }

    #[test]
    fn a_note_names_destination_and_rule_and_what_to_do() {
        let line = line(
            1,
            "shop/web deny cluster-enforced:no-metadata tcp 169.254.169.254 80",
        );
        assert_eq!(
            note(&line),
            "denied a packet to 169.254.169.254:80/tcp by cluster-enforced:no-metadata; on the node, `egressway explain shop/web 169.254.169.254:80/tcp` says why"
        );
    }
}
