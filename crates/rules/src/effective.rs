//! All that applies to one pod: the tiers in order, each rule with the place it comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fault::{Collector, Complaint, Faults, quoted};
use super::grammar;
use super::lexer;
use super::pattern;
use super::rule::{Rule, Target};

pub use super::facts::Facts;

/// The tiers, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// `enforced` in the policy file.
    ClusterEnforced,
    /// The namespace's `egressway.dev/enforced-rules`.
    NamespaceEnforced,
    /// The built-in allowance that lets every pod ask clusterDNS.
    Dns,
    /// The built-in rules that only enforced ones override.
    BuiltIn,
    /// The pod's `egressway.dev/rules`.
    Pod,
    /// The namespace's `egressway.dev/default-rules`.
    NamespaceDefaults,
    /// `defaults` in the policy file.
    ClusterDefaults,
}

impl Tier {
    /// All tiers, in the order in which they are asked.
    pub const ALL: [Tier; 7] = [
        Tier::ClusterEnforced,
        Tier::NamespaceEnforced,
        Tier::Dns,
        Tier::BuiltIn,
        Tier::Pod,
        Tier::NamespaceDefaults,
        Tier::ClusterDefaults,
    ];

    /// As in log lines: `pod`, `cluster-enforced`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::ClusterEnforced => "cluster-enforced",
            Tier::NamespaceEnforced => "namespace-enforced",
            Tier::Dns => "dns",
            Tier::BuiltIn => "built-in",
            Tier::Pod => "pod",
            Tier::NamespaceDefaults => "namespace-defaults",
            Tier::ClusterDefaults => "cluster-defaults",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is left when no rule decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// The packet goes.
    #[default]
    Allow,
    /// The packet is dropped silently.
    Deny,
}

impl DefaultAction {
    /// What it is called in log lines and counters: `default:allow`, `default:deny`.
    pub const fn label(self) -> &'static str {
        match self {
            DefaultAction::Allow => "default:allow",
            DefaultAction::Deny => "default:deny",
        }
    }

    /// As in the policy file and in log lines: `allow`, `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            DefaultAction::Allow => "allow",
            DefaultAction::Deny => "deny",
        }
    }
}

/// One tier's rules, sorted by priority, then as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRules {
    /// Which tier.
    pub tier: Tier,
    /// Where the text stands, for people: `pod annotation egressway.dev/rules`, `/etc/egressway/policy.yaml: enforced`.
    pub source: String,
    /// The text as it was read.
    pub text: String,
    /// What the text says.
    pub rules: Vec<Rule>,
    /// Denies and rejects are only logged and counted; the packet goes.
    pub audit: bool,
}

/// The policy of one pod, ready to be compiled or asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// In the order of [`Tier`]; tiers without rules are left out.
    pub tiers: Vec<TierRules>,
    /// What is left when no rule decided.
    pub default_action: DefaultAction,
    /// The default action, too, is only logged and counted.
    pub default_audit: bool,
    /// What names in rules stand for.
    pub facts: Facts,
    /// How many lines a second a rule of the pod's own may log; `None`: as many as it says.
    pub pod_log_rate: Option<u32>,
    /// The pod's namespace is exempt: there are no rules, and multicast goes as all else does.
    pub exempt: bool,
}

impl TierRules {
    /// Reads a tier's text. `source` says to people where the text stands.
    ///
    /// # Errors
    /// All faults of the text.
    pub fn parse(tier: Tier, source: &str, text: &str, audit: bool) -> Result<TierRules, Faults> {
        Ok(TierRules {
            tier,
            source: source.to_owned(),
            text: text.to_owned(),
            rules: grammar::parse(source, text)?,
            audit,
        })
    }

    /// What a rule of this tier is called in log lines and counters: `pod:erp`, `cluster-enforced:2`.
    pub fn label(&self, rule: &Rule) -> String {
        format!("{}:{}", self.tier, rule.label())
    }

    /// Looks for names that stand for nothing. The text is read again only if there are some, for their
    /// places.
    pub fn note_unknown_names(&self, faults: &mut Collector, facts: &Facts, api: ApiAnswers) {
        let is_unknown = |target: &Target| match target {
            Target::Cluster => facts.cluster.is_empty(),
            Target::Name(_) => facts.resolvers.is_empty(),
            _ if api == ApiAnswers::ToBeAsked => false,
            Target::Nodes => facts.nodes.is_empty(),
            Target::Dns => facts.dns.is_empty(),
            Target::ApiServer => facts.api_server.is_empty(),
            Target::Service(service) => facts.service(service).is_empty(),
            _ => false,
        };
        let mut targets = self.rules.iter().flat_map(|r| r.to.iter().chain(&r.except));
        if targets.any(is_unknown) {
            note_unknown_names(faults, &self.source, &self.text, facts, api);
        }
    }
}

impl Effective {
    /// Puts the tiers in their order and leaves out those without rules.
    ///
    /// # Errors
    /// A rule has a name of which nothing is known: a deny of nothing would be an open door.
    pub fn new(
        mut tiers: Vec<TierRules>,
        default_action: DefaultAction,
        default_audit: bool,
        facts: Facts,
    ) -> Result<Effective, Faults> {
        tiers.retain(|tier| !tier.rules.is_empty());
        tiers.sort_by_key(|tier| tier.tier);
        let mut faults = Collector::default();
        for tier in &tiers {
            tier.note_unknown_names(&mut faults, &facts, ApiAnswers::Asked);
        }
        faults.finish(Effective {
            tiers,
            default_action,
            default_audit,
            facts,
            pod_log_rate: None,
            exempt: false,
        })
    }
}

/// What the API has to do with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAnswers {
    /// It was asked, or there is none: what is not known now never will be.
    Asked,
    /// It will be asked for the names that only it knows.
    ToBeAsked,
}

/// The text is known to be valid: there, these words can only be targets.
fn note_unknown_names(
    faults: &mut Collector,
    source: &str,
    text: &str,
    facts: &Facts,
    api: ApiAnswers,
) {
    for word in lexer::statements(text).flat_map(|statement| statement.words) {
        let lower = word.text().to_ascii_lowercase();
        let complaint = match lower.as_str() {
            "cluster" if facts.cluster.is_empty() => nothing("cluster", "clusterCIDRs"),
            name if facts.resolvers.is_empty() && pattern::read(name).is_some() => {
                Complaint::new(format!(
                    "{} needs to know whom pods ask for addresses: the policy file has no `clusterDNS`",
                    quoted(word.text())
                ))
                .help("add `clusterDNS` to the policy file of the node")
            }
            _ if api == ApiAnswers::ToBeAsked => continue,
            "nodes" if facts.nodes.is_empty() => Complaint::new(
                "`nodes` needs the Kubernetes API, which is not asked, or `nodeCIDRs` in the policy file",
            )
            .help("add `nodeCIDRs` to the policy file of the node"),
            "dns" if facts.dns.is_empty() => nothing("dns", "clusterDNS"),
            "apiserver" if facts.api_server.is_empty() => {
                Complaint::new("`apiserver` needs the Kubernetes API, which is not asked")
                    .help("write the addresses of the API server")
            }
            other => match other.strip_prefix("svc/") {
                Some(service) if facts.service(service).is_empty() => Complaint::new(format!(
                    "{} needs the Kubernetes API, which is not asked",
                    quoted(word.text())
                ))
                .help("write the addresses of the pods behind the Service"),
                _ => continue,
            },
        };
        faults.add(source, word, complaint);
    }
}

fn nothing(keyword: &str, key: &str) -> Complaint {
    Complaint::new(format!(
        "`{keyword}` stands for nothing: the policy file has no `{key}`"
    ))
    .help(format!("add `{key}` to the policy file of the node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str, facts: Facts) -> Result<Effective, Faults> {
        let tier = TierRules::parse(Tier::Pod, "pod", text, false)?;
        Effective::new(vec![tier], DefaultAction::Allow, false, facts)
    }

    #[test]
    fn keywords_that_stand_for_nothing_are_faults() {
        let text =
            "allow\ndeny to 10.0.0.0/8, Cluster name=cluster # dns\nallow except dns name=dns";
        let faults = build(text, Facts::default()).expect_err("nothing is known");
        assert_eq!(
            faults.to_string(),
            "\
pod:2:21: `cluster` stands for nothing: the policy file has no `clusterCIDRs`
  deny to 10.0.0.0/8, Cluster name=cluster # dns
                      ^^^^^^^
  help: add `clusterCIDRs` to the policy file of the node
pod:3:14: `dns` stands for nothing: the policy file has no `clusterDNS`
  allow except dns name=dns
               ^^^
  help: add `clusterDNS` to the policy file of the node"
        );
        let facts = Facts {
            cluster: vec!["10.244.0.0/16".parse().expect("a network")],
            dns: vec!["10.96.0.10".parse().expect("an address")],
            ..Facts::default()
        };
        assert!(build(text, facts).is_ok());
    }

    #[test]
    fn names_that_only_the_api_knows_are_faults_without_it() {
        let text = "allow to SVC/shop/web\ndeny to apiserver, svc/shop/db";
        let faults = build(text, Facts::default()).expect_err("nothing is known");
        assert_eq!(
            faults.to_string(),
            "\
pod:1:10: `SVC/shop/web` needs the Kubernetes API, which is not asked
  allow to SVC/shop/web
           ^^^^^^^^^^^^
  help: write the addresses of the pods behind the Service
pod:2:9: `apiserver` needs the Kubernetes API, which is not asked
  deny to apiserver, svc/shop/db
          ^^^^^^^^^
  help: write the addresses of the API server
pod:2:20: `svc/shop/db` needs the Kubernetes API, which is not asked
  deny to apiserver, svc/shop/db
                     ^^^^^^^^^^^
  help: write the addresses of the pods behind the Service"
        );
        let address = || vec!["10.96.0.1".parse().expect("an address")];
        let facts = Facts {
            api_server: vec!["10.96.0.1:443".parse().expect("address and port")],
            services: ["shop/web", "shop/db"]
                .map(|name| (name.to_owned(), address()))
                .into(),
            ..Facts::default()
        };
        assert!(build(text, facts).is_ok());
    }

    #[test]
    fn names_are_no_keywords() {
        assert!(build("allow name=dns # cluster", Facts::default()).is_ok());
    }

    #[test]
    fn tiers_come_in_their_order_without_the_empty_ones() {
        let tier = |tier, text| TierRules::parse(tier, "test", text, false).expect("is valid");
        let effective = Effective::new(
            vec![
                tier(Tier::ClusterDefaults, "deny"),
                tier(Tier::Pod, "# none"),
                tier(Tier::ClusterEnforced, "allow"),
            ],
            DefaultAction::Allow,
            false,
            Facts::default(),
        )
        .expect("is valid");
        let tiers: Vec<Tier> = effective.tiers.iter().map(|tier| tier.tier).collect();
        assert_eq!(tiers, [Tier::ClusterEnforced, Tier::ClusterDefaults]);
    }
}
