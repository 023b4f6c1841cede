//! Questions to clusterDNS that are led to the node's own resolver.
//!
//! By the time that they are judged they go to an address of the node, which is not what the pod has asked. So these
//! chains say what the rules come to for a question to clusterDNS: of each tier the rules that match it, in their order,
//! each with its log and counter.
//!
//! ```text
//! pol-HASH-asked          by the port, which clusterDNS address was asked, and how
//! pol-HASH-asked-N        the tiers in order for one of these, then the default action
//! pol-HASH-asked-N-tN     a tier that may end with a `pass`
//! ```

use jiff::Timestamp;
use nft::{Field, Rule as KernelRule, Test, Time, Value, Verdict};
use rules::class::DNS_PORT;
use rules::effective::Effective;
use rules::evaluate::{self, Original, Packet};
use rules::protocol::{TCP, UDP};
use rules::rule::Verb;

use super::{Compiler, Planned, START};
use crate::plan::base;
use crate::plan::condition;
use crate::plan::packet::{FAMILIES, daddr};
use crate::plan::resolver::{Led, resolver};

impl Compiler {
    /// Puts the chains there, and what leads to them behind what the first chain has already.
    pub(super) fn questions(
        &mut self,
        rules: &mut [Planned],
        policy: &Effective,
        default: &[KernelRule],
    ) {
        let mut by_port = Vec::new();
        for led in Led::all(&policy.facts.resolvers) {
            for protocol in [UDP, TCP] {
                let question = Packet {
                    destination: led.asked,
                    protocol,
                    port: Some(DNS_PORT),
                    icmp: None,
                    original: Some(Original {
                        address: led.asked,
                        port: Some(DNS_PORT),
                    }),
                    local: false,
                    // Before any rule ends.
                    time: Timestamp::MIN,
                    names: Vec::new(),
                };
                let chain = self.add_chain(format!("asked-{}", self.chains.len()), Vec::new());
                self.question(chain, rules, policy, &question);
                self.chains[chain].1.extend_from_slice(default);
                let there = KernelRule::new()
                    .is(Field::Nfproto, Value::Nfproto(led.family()))
                    .is(Field::L4proto, Value::Protocol(protocol))
                    .is(Field::ThDport, Value::U16(led.port));
                by_port.push(there.then(Verdict::goto(&*self.chains[chain].0)));
            }
        }
        by_port.push(KernelRule::new().then(Verdict::goto(base::DENY)));
        let all = self.add_chain("asked".to_owned(), by_port);
        for family in FAMILIES {
            let led = KernelRule::new()
                .test(Field::CtStatus, Test::Dnat)
                .is(daddr(family), resolver(family).into());
            let led = led.then(Verdict::goto(&*self.chains[all].0));
            self.chains[START].1.push(led);
        }
    }

    /// All tiers, for one question.
    fn question(
        &mut self,
        chain: usize,
        rules: &mut [Planned],
        policy: &Effective,
        question: &Packet,
    ) {
        for (place, tier) in policy.tiers.iter().enumerate() {
            let mut matching = Vec::new();
            for (in_tier, rule) in tier.rules.iter().enumerate() {
                if evaluate::matches(rule, question, &policy.facts) {
                    matching.push((in_tier, rule));
                    if rule.until.is_none() {
                        break;
                    }
                }
            }
            let passes = matching.iter().any(|(_, rule)| rule.verb == Verb::Pass);
            let own = match passes {
                false => chain,
                true => {
                    let own = self.add_chain(format!("t{}", self.chains.len()), Vec::new());
                    let jump = Verdict::jump(&*self.chains[own].0);
                    self.chains[chain].1.push(KernelRule::new().then(jump));
                    own
                }
            };
            for (in_tier, rule) in matching {
                let is_it = |planned: &&mut Planned| planned.place == (place, in_tier);
                let Some(planned) = rules.iter_mut().find(is_it) else {
                    continue; // no packet matches it
                };
                let action = self.act(planned);
                let ends = condition::until(rule).map(|until| {
                    let ends = Value::Time(Time::from_seconds(until));
                    KernelRule::new().test(Field::Time, Test::Below(ends))
                });
                let mut whole = ends.unwrap_or_default();
                whole.statements.extend(action.statements);
                whole.comment = action.comment;
                self.chains[own].1.push(whole);
            }
        }
    }
}
