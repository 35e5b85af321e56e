//! Races of two requests, of which one decides whether the other is still allowed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::assert_no_server_error;
use crate::accounts::row_counts;
use crate::concurrency::orphans;
use crate::harness::{Gate, Reply, concurrently, json};

/// Posts by a domain's token while the domain is deleted, two hundred times. A post that was answered 201 exists, a
/// request after the answer to the deletion is refused, and no orphan remains.
#[test]
fn domain_deletion__concurrent_posts_are_kept_or_refused() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let (mut made, mut refused) = (0, 0);
    for round in 0..200 {
        let domain = gate.register(&user, &format!("d{round}.example.com"));
        let token = gate.access_token(&domain);
        let content = json!({"content": format!("{round} #a #b")});
        let together = Barrier::new(3);
        let post = || gate.post("/v1/posts").token(&token).json(&content).send();
        let write = || {
            together.wait();
            (0..2).map(|_| post()).collect::<Vec<Reply>>()
        };
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let writers = [scope.spawn(write), scope.spawn(write)];
            together.wait();
            gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
            post().refused(401, "revoked");
            writers.into_iter().flat_map(|writer| writer.join().expect("answers")).collect()
        });
        for reply in replies {
            assert_no_server_error("a post", &reply);
            match reply.status {
                201 => made += 1,
                _ => {
                    reply.refused(401, "revoked");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(orphans(&gate), [0; 4]);
    let [_, domains, secrets, posts, hashtags] = row_counts(&gate);
    assert_eq!([domains, secrets, posts, hashtags], [0, 0, made, 2 * made]);
    assert!(made > 0 && refused > 0, "the race must have both outcomes: {made} made, {refused} refused");
}

/// Fifty requests compete for the last place of a user, several times.
#[test]
fn domain_quota__one_of_fifty_concurrent_registrations_gets_the_last_place() {
    let gate = Gate::with(&[("DOMAINS_PER_USER", "4")]);
    let user = gate.sign_up("alice");
    for number in 0..3 {
        gate.register(&user, &format!("kept{number}.example.com"));
    }
    let number = AtomicUsize::new(0);
    let register = || {
        let host = format!("n{}.example.com", number.fetch_add(1, Ordering::Relaxed));
        gate.post("/v1/domains").token(&user.token).json(&json!({"host": host, "type": "free"})).send()
    };
    for round in 0..4 {
        let replies = concurrently(50, register);
        replies.iter().for_each(|reply| assert_no_server_error("a registration", reply));
        let made: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201).collect();
        assert_eq!(made.len(), 1, "{round}");
        for reply in replies.iter().filter(|reply| ![201, 503].contains(&reply.status)) {
            reply.refused(403, "quota");
        }
        assert_eq!(row_counts(&gate)[1], 4);
        let id = made[0].json()["payload"]["id"].as_str().expect("an id").to_owned();
        gate.delete(&format!("/v1/domains/{id}")).token(&user.token).send().expect(200);
    }
}
