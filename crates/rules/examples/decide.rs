//! Decides one TCP packet by rules on the command line:
//!
//! ```text
//! cargo run --example decide -- 'allow 443/tcp to 203.0.113.0/24; deny log' 203.0.113.7:80
//! ```

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use egressway_rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use egressway_rules::evaluate::Packet;
use egressway_rules::rule::Transport;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let text = words
        .next()
        .unwrap_or_else(|| "allow 443/tcp to 203.0.113.0/24; deny log".to_owned());
    let to: SocketAddr = words
        .next()
        .as_deref()
        .unwrap_or("203.0.113.7:80")
        .parse()?;

    let own = TierRules::parse(Tier::Pod, "rules", &text, false)?;
    let policy = Effective::new(vec![own], DefaultAction::Allow, false, Facts::default())?;
    let trace = policy.trace(&Packet {
        destination: to.ip(),
        protocol: Transport::Tcp.protocol(),
        port: Some(to.port()),
        icmp: None,
        original: None,
        local: false,
        time: jiff::Timestamp::now(),
        names: Vec::new(),
    });
    for step in &trace.steps {
        let why = step
            .mismatch
            .map_or("matches", |mismatch| mismatch.as_str());
        println!("  {}: {why}", step.rule);
    }
    println!("{} by {}", trace.decision.verdict, trace.decision.label());
    Ok(())
}
