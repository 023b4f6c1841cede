//! Many calls at once, and calls that are cut short.

use crate::harness::*;
use std::io::Write;
use std::thread;
use std::time::Duration;

#[test]
fn twenty_at_once() {
    let node = Node::new(NodeOptions::default());
    // The bridge must be there: the reference plugin may lose the race to make it.
    let first = node.pod(PodSpec::new("first", Primary::Bridge));
    let pods: Vec<Pod<'_>> = thread::scope(|scope| {
        let adds: Vec<_> = (0..20)
            .map(|n| {
                let spec = PodSpec::new(&format!("p{n}"), Primary::Bridge)
                    .rules(&format!("deny {}/tcp", 100 + n % 3));
                let node = &node;
                scope.spawn(move || node.pod(spec))
            })
            .collect();
        adds.into_iter()
            .map(|add| add.join().expect("an ADD"))
            .collect()
    });
    for pod in &pods {
        assert_eq!(pod.ours("CHECK").ok(), "");
    }
    assert_eq!(node.records().len(), 21);
    let who: Vec<_> = pods.iter().map(|pod| pod.who.clone()).collect();
    thread::scope(|scope| {
        for pod in pods {
            scope.spawn(|| pod.delete());
        }
    });
    for who in &who {
        node.assert_nothing_of(who);
    }
    assert_eq!(first.ours("CHECK").ok(), "");
    first.delete();
    node.assert_nothing_left();
}

/// However far an ADD came before it was killed, the DEL that follows cleans up.
#[test]
fn a_killed_add_is_cleaned_up() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .uncovered()
            .rules("deny to internet log\nallow to any"),
    );
    let call = pod.call("ADD");
    // How long a whole ADD takes tells which moments are worth a kill.
    let whole = call.run(&node.netns).output.took;
    pod.ours("DEL").ok();
    for step in 0..24u32 {
        let mut child = call.spawn(&node.netns);
        let mut input = child.stdin.take().expect("piped stdin");
        // The plugin may be dead before it reads.
        let _ = input.write_all(&call.stdin);
        drop(input);
        thread::sleep(whole.min(Duration::from_millis(200)) * step / 20);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let del = pod
            .call_with("DEL", &pod.spec.annotations, None)
            .run(&node.netns);
        assert!(del.succeeded(), "step {step}: {:?}", del.output);
        node.assert_nothing_of(&pod.who);
        node.assert_nothing_left();
    }
}
