//! The kinds of findings. Their names are stable: scripts, SARIF and `--ignore` use them.

use rules::lint::{self, Check};
pub use rules::lint::{Check as Kind, Severity};

macro_rules! kinds {
    ($($name:ident $severity:ident $id:literal $meaning:literal)*) => {
        $(pub(super) const $name: Check = Check {
            id: $id,
            severity: Severity::$severity,
            meaning: $meaning,
        };)*
    };
}

kinds! {
    YAML_SYNTAX Error "yaml-syntax" "The file is neither YAML nor JSON from here on"
    TEMPLATE Warning "template" "A template that must be rendered before it can be checked"
    RULE_SYNTAX Error "rule-syntax" "An invalid rule, with which the pod does not start"
    POLICY_FILE Error "policy-file" "An invalid key or value of the policy file"
    ANNOTATION_VALUE Error "annotation-value" "An annotation's value that is invalid"
    LIMITS Error "limits" "More rules than the policy file's `limits` lets a pod or a namespace have"
    UNKNOWN_KEYWORD Error "unknown-keyword" "`cluster`, `dns` or a domain name, where the policy file does not define them"
    EGRESS_IP_REFUSED Error "egress-ip-refused" "An egress address that can't be one, that the policy file does not offer, or that another namespace has"
    UNKNOWN_ANNOTATION Error "unknown-annotation" "An annotation that does not exist"
    DUPLICATE_ANNOTATION Error "duplicate-annotation" "An annotation that is there twice"
    WRONG_OBJECT Error "wrong-object" "An annotation of namespaces on a pod, or one of pods on a namespace"
    NOT_ON_POD Error "not-on-pod" "An annotation on an object that does not hand it to pods"
    LABEL Error "label" "A label with the key of an annotation"
    HOST_NETWORK Error "host-network" "Rules on a pod in the host's network, where no plugin sees it"
    NO_GUARANTEE Warning "no-guarantee" "Rules on a pod that has the privileges to leave them"
    RAW_PACKETS Warning "raw-packets" "Rules on a pod that may send raw packets, which hold only with the guard for forged checksums"
    FORGED_CHECKSUMS Warning "forged-checksums" "A conflist that lets packets through whose checksum would be written behind the rules, or slows pods down for it"
    SECOND_NETWORK Warning "second-network" "Rules on a pod that has further networks, for which rules hold only if their conflists have the plugin"
    EXEMPT_NAMESPACE Warning "exempt-namespace" "Rules in a namespace that the policy file exempts"
    NEEDS_API Warning "needs-api" "`svc/`, `apiserver` or `nodes`, which only the Kubernetes API can resolve, for nodes that do not ask it"
    SERVICE_ADDRESS Warning "service-address" "An address of the Service range, which rules never see"
    UNKNOWN_SERVICE Warning "unknown-service" "A Service that is not among the files, though one of nearly the same name is"
    SERVICE_PORT Warning "service-port" "A port that the Service does not have"
    WIDE_NAME Warning "wide-name" "A domain name that means all names of a top-level domain: whoever has one of them opens what he wants"
    NO_SERVICE_ADDRESS Error "no-service-address" "A Service without an address of its own"
}

/// All kinds, in the order in which they are listed.
pub const ALL: &[&Check] = &[
    &YAML_SYNTAX,
    &TEMPLATE,
    &RULE_SYNTAX,
    &POLICY_FILE,
    &ANNOTATION_VALUE,
    &LIMITS,
    &UNKNOWN_KEYWORD,
    &EGRESS_IP_REFUSED,
    &UNKNOWN_ANNOTATION,
    &DUPLICATE_ANNOTATION,
    &WRONG_OBJECT,
    &NOT_ON_POD,
    &LABEL,
    &HOST_NETWORK,
    &NO_GUARANTEE,
    &RAW_PACKETS,
    &FORGED_CHECKSUMS,
    &SECOND_NETWORK,
    &EXEMPT_NAMESPACE,
    &lint::AFTER_UNCONDITIONAL,
    &lint::UNREACHABLE_RULE,
    &lint::DUPLICATE_RULE,
    &lint::REDUNDANT_RULE,
    &lint::OVERRIDDEN_RULE,
    &lint::CUT_OFF,
    &NEEDS_API,
    &SERVICE_ADDRESS,
    &UNKNOWN_SERVICE,
    &SERVICE_PORT,
    &WIDE_NAME,
    &NO_SERVICE_ADDRESS,
    &lint::EXPIRED_RULE,
];

/// The kind of this name.
pub fn by_id(id: &str) -> Option<&'static Check> {
    ALL.iter().find(|kind| kind.id == id).copied()
}
