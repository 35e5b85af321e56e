//! A hundred rotations while clients call: nobody is refused inside the grace, nobody gets in after it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};

use super::{rotated, try_secret};
use crate::harness::Gate;

/// Seconds.
const GRACE: i64 = 30;

#[test]
fn a_hundred_rotations_under_load() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let (done, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    // The secret that clients were last told of; a client may be one rotation behind.
    let told = RwLock::new([domain.secret.clone(), domain.secret.clone()]);
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for which in [0, 1, 0, 1] {
            let (gate, done, calls, told, refused) = (&gate, &done, &calls, &told, &refused);
            scope.spawn(move || {
                loop {
                    // Held while it is used, so that the clock stands still for this one's grace.
                    let secrets = told.read().expect("nobody panics");
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let reply = try_secret(gate, &secrets[which]);
                    if reply.status != 200 {
                        refused.lock().expect("nobody panics").push(reply.text());
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut over = Vec::new();
        for _ in 0..100 {
            let new = rotated(&gate, &alice, &domain, GRACE);
            let mut secrets = told.write().expect("nobody panics");
            let [old, newer] = &mut *secrets;
            over.push(std::mem::replace(old, std::mem::replace(newer, new.secret)));
            // The one before is in its grace still; the one before that ends now.
            gate.clock.advance(GRACE / 2 + 1);
        }
        let secrets = told.write().expect("nobody panics");
        done.store(true, Ordering::Relaxed);
        let last = secrets[1].clone();
        drop(secrets);
        gate.clock.advance(GRACE + 1);
        for secret in over.iter().filter(|secret| **secret != last) {
            try_secret(&gate, secret).refused(401, "unknown_client");
        }
        try_secret(&gate, &last).expect(200);
    });
    let refused = refused.into_inner().expect("nobody panics");
    assert!(refused.is_empty(), "{} of {} were refused: {}", refused.len(), calls.load(Ordering::Relaxed), refused[0]);
    assert!(calls.load(Ordering::Relaxed) > 100);
}
