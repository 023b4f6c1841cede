//! The kinds of findings. Their names are stable: scripts, SARIF and `--ignore` use them.

use serde::Serialize;

/// Whether a finding makes the command fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One kind of finding. docs/lint.md has an example of each.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Kind {
    pub id: &'static str,
    pub severity: Severity,
    /// One sentence, without its full stop.
    pub meaning: &'static str,
}

macro_rules! kinds {
    ($($name:ident $severity:ident $id:literal $meaning:literal)*) => {
        $(pub(super) const $name: Kind = Kind {
            id: $id,
            severity: Severity::$severity,
            meaning: $meaning,
        };)*
        /// All kinds.
        pub(super) const ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    YAML_SYNTAX Error "yaml-syntax" "The file is neither YAML nor JSON from here on"
    TEMPLATE Warning "template" "A template that must be rendered before it can be checked"
    RULE_SYNTAX Error "rule-syntax" "A rule that the plugin refuses, and with it the pod"
    POLICY_FILE Error "policy-file" "A key or value of the policy file that the plugin refuses"
    ANNOTATION_VALUE Error "annotation-value" "An annotation's value that is refused"
    UNKNOWN_KEYWORD Error "unknown-keyword" "`cluster` or `dns`, where the policy file does not say what they stand for"
    EGRESS_IP_REFUSED Error "egress-ip-refused" "An egress address that the policy file does not offer, or that another namespace has"
    UNKNOWN_ANNOTATION Error "unknown-annotation" "An annotation that does not exist"
    DUPLICATE_ANNOTATION Error "duplicate-annotation" "An annotation that is there twice"
    WRONG_OBJECT Error "wrong-object" "An annotation of namespaces on a pod, or one of pods on a namespace"
    NOT_ON_POD Error "not-on-pod" "An annotation on an object that does not hand it to pods"
    LABEL Error "label" "A label with the key of an annotation"
    HOST_NETWORK Error "host-network" "Rules on a pod in the host's network, where no plugin sees it"
    NO_GUARANTEE Warning "no-guarantee" "Rules on a pod that has the privileges to leave them"
    EXEMPT_NAMESPACE Warning "exempt-namespace" "Rules in a namespace that the policy file exempts"
    AFTER_UNCONDITIONAL Error "after-unconditional" "Rules after one that matches everything"
    UNREACHABLE_RULE Error "unreachable-rule" "A rule that never matches, since earlier ones that decide otherwise cover it"
    DUPLICATE_RULE Warning "duplicate-rule" "A rule that repeats another"
    REDUNDANT_RULE Warning "redundant-rule" "A rule that never matches, since earlier ones that decide the same cover it"
    OVERRIDDEN_RULE Warning "overridden-rule" "A rule that never matches, since a tier above decides all of it"
    CUT_OFF Warning "cut-off" "A deny of everything with no allow before it"
    SERVICE_ADDRESS Warning "service-address" "An address of the Service range, which rules never see"
    UNKNOWN_SERVICE Warning "unknown-service" "A Service that is not among the files, though one of nearly the same name is"
    SERVICE_PORT Warning "service-port" "A port that the Service does not have"
    NO_SERVICE_ADDRESS Error "no-service-address" "A Service without an address of its own"
    EXPIRED_RULE Warning "expired-rule" "A rule whose `until` is over"
}

/// The kind of this name.
pub(super) fn by_id(id: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.id == id).copied()
}
