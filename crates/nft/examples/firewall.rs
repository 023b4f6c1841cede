//! A host that answers nobody but whom it knows: nothing comes in except replies and SSH from one
//! address that is forgotten after an hour. Prints the transaction as nft text; with `--commit`, the kernel
//! gets it, too: `unshare --net cargo run --example firewall -- --commit` harms nobody.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use nft::{
    Chain, ChainKind, CtState, Element, Elements, Field, Hook, HookPoint, KeyType, Nft, Object,
    Rule, Set, Table, TableFamily, Transaction, Value, Verdict,
};

fn main() -> Result<(), Box<dyn Error>> {
    let table = Table::new(TableFamily::Inet, "example");
    let input = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Input,
        priority: 0,
        accept: false,
    };
    let mut friends = Set::new("friends", KeyType::Ipv4);
    friends.timeout = Some(Duration::from_secs(3600));
    let friend = Element::of(Ipv4Addr::new(192, 0, 2, 7));

    let mut transaction = Transaction::new();
    transaction.add(&table, Object::Table);
    transaction.add(&table, friends);
    transaction.add(&table, Elements::new("friends", vec![friend]));
    transaction.add(&table, Chain::base("input", input));
    for rule in [
        Rule::new()
            .state(&[CtState::Established])
            .then(Verdict::Accept),
        Rule::new()
            .is(Field::TcpDport, Value::U16(22))
            .inside(Field::IpSaddr, "friends")
            .counter()
            .then(Verdict::Accept),
    ] {
        transaction.add(&table, rule.in_chain("input"));
    }
    println!("{transaction}");
    if std::env::args().any(|word| word == "--commit") {
        Nft::open()?.commit(&transaction)?;
    }
    Ok(())
}
