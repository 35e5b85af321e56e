//! A hundred rotations under load: no client is refused within the grace, and none is accepted a second after it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};

use super::{list, rotated, try_secret};
use crate::harness::{Gate, Reply};

/// Seconds.
const GRACE: i64 = 30;

#[test]
fn secret_rotation__a_hundred_under_load() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let (done, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    // The two latest secrets; a client may be one rotation behind.
    let current = RwLock::new([domain.secret.clone(), domain.secret.clone()]);
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for which in [0, 1, 0, 1] {
            let (gate, done, calls, current, refused) = (&gate, &done, &calls, &current, &refused);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // Held during the request, so that the secrets do not change meanwhile.
                    let secrets = current.read().expect("no panic");
                    let reply = try_secret(gate, &secrets[which]);
                    if reply.status != 200 {
                        refused.lock().expect("no panic").push(reply.text());
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also set by a failure, so that no thread waits in vain.
        let _end = End(&done);
        let mut over = Vec::new();
        // The earlier secret and its deadline. One round later no client uses it.
        let mut retiring: Option<(String, i64)> = None;
        for _ in 0..100 {
            let before = gate.clock.now();
            let new = rotated(&gate, &alice, &domain, GRACE);
            let deadline = list(&gate, &alice, &domain)[1]["expiresAt"].as_i64().expect("a deadline");
            assert!((before + GRACE..=gate.clock.now() + GRACE).contains(&deadline));
            let old = {
                let mut secrets = current.write().expect("no panic");
                let [old, newer] = &mut *secrets;
                *old = std::mem::replace(newer, new.secret);
                old.clone()
            };
            // The clients continue with the earlier secret, within its grace, and the new one.
            if let Some((secret, deadline)) = retiring.replace((old, deadline)) {
                at(&gate, &secret, deadline - 1).expect(200);
                at(&gate, &secret, deadline + 1).refused(401, "unknown_client");
                over.push(secret);
            }
            gate.clock.advance((before + GRACE / 2 + 1 - gate.clock.now()).max(0));
        }
        done.store(true, Ordering::Relaxed);
        for secret in &over {
            try_secret(&gate, secret).refused(401, "unknown_client");
        }
        assert_eq!(over.len(), 99);
    });
    let refused = refused.into_inner().expect("no panic");
    assert!(refused.is_empty(), "{} of {} were refused: {}", refused.len(), calls.load(Ordering::Relaxed), refused[0]);
    assert!(calls.load(Ordering::Relaxed) > 100);
}

/// Sets the flag on drop.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The answer for the secret at exactly that second: real time continues meanwhile.
fn at(gate: &Gate, secret: &str, second: i64) -> Reply {
    loop {
        gate.clock.advance(second - gate.clock.now());
        let reply = try_secret(gate, secret);
        if gate.clock.now() == second {
            return reply;
        }
    }
}
