//! Several nodes on one PostgreSQL have one set of keys.

use std::sync::{Arc, Barrier};

use gatebird::config::Algorithm;

use super::{jwks, published, retire, rotate};
use crate::binary::{PROMISED, within};
use crate::forgery::kid;
use crate::forgery::signer::stored_keys;
use crate::harness::{Database, Gate, needs_postgres};

#[test]
fn signing_key__nodes_that_start_together_make_one() {
    if needs_postgres().is_none() {
        return;
    }
    for algorithm in Algorithm::PUBLIC {
        let database = Arc::new(Database::new());
        // The tables exist already, so that only the key is created.
        drop(Gate::on(Arc::clone(&database), &[]));
        let together = Barrier::new(3);
        let start = || {
            together.wait();
            Gate::on(Arc::clone(&database), &[("JWT_ALGORITHM", algorithm.name())])
        };
        let gates: Vec<Gate> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().expect("it starts")).collect()
        });
        assert_eq!(stored_keys(&gates[0]).len(), 1, "{algorithm:?}");
        let (_, domain, token) = gates[0].tenant("alice");
        for gate in &gates {
            assert_eq!(jwks(gate).text(), jwks(&gates[0]).text());
            let accepts = |token: &str| gate.get("/v1/test").token(token).send().status == 200;
            within(PROMISED, "a new token", || accepts(&token));
            assert_eq!(kid(&gate.access_token(&domain)), kid(&token));
        }
    }
}

#[test]
fn key_rotation__reaches_other_nodes() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::with(&[("JWT_ALGORITHM", "ES256")]);
    let there = here.another_node();
    let (_, domain, token) = here.tenant("alice");
    let accepts = |gate: &Gate, token: &str| gate.get("/v1/test").token(token).send().status == 200;
    let signs = |gate: &Gate| kid(&gate.access_token(&domain));
    within(PROMISED, "the client", || accepts(&there, &token));

    let next = rotate(&here, false);
    assert_eq!(published(&here).len(), 2);
    within(PROMISED, "the next key", || published(&there) == published(&here));
    assert_eq!(rotate(&there, false).kid, next.kid, "there is one next key, wherever it is asked for");
    for gate in [&here, &there] {
        gate.clock.advance(900);
        assert_eq!(signs(gate), next.kid);
    }
    let token = there.access_token(&domain);
    assert!(accepts(&here, &token));

    // Every node knows a key before it signs: no node refuses its tokens even for a moment.
    let now = rotate(&there, true);
    within(2 * PROMISED, "the key that signs at once", || signs(&there) == now.kid);
    assert!(accepts(&here, &there.access_token(&domain)));
    within(PROMISED, "the clocks' seconds", || signs(&here) == now.kid);

    assert!(retire(&here, &next.kid));
    assert!(!accepts(&here, &token));
    within(PROMISED, "the retired key", || !accepts(&there, &token) && published(&there) == published(&here));

    // Whichever node runs the maintenance first, the schedule adds one key.
    for gate in [&here, &there] {
        gate.clock.advance(31 * 86_400);
    }
    std::thread::scope(|scope| {
        for gate in [&here, &there] {
            scope.spawn(|| gate.app.maintain().expect("the database answers"));
        }
    });
    assert_eq!(stored_keys(&here).len(), 2, "the one that signs and the next one");
}
