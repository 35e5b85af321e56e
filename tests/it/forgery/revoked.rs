//! Tokens that were good: an end affects exactly the earlier ones, independently of the clock.

use gatebird::db::{Conn, domain, secret, user};
use gatebird::error::Result;
use gatebird::id::DomainId;
use gatebird::secret::ClientSecret;

use super::{GOOD, INVALID, REVOKED, Target};
use crate::harness::{Domain, Gate, PASSWORD, User, json, resigned};

/// A change as the command line makes it, in force at once.
pub fn change(gate: &Gate, work: impl FnOnce(&mut Conn) -> Result<()>) {
    let app = &gate.app;
    app.db.change_now(work, |conn| app.directory.catch_up(conn)).expect("the database answers");
}

/// Gives the domain a new secret and retires the old one after `grace` seconds.
pub fn rotate(gate: &Gate, domain: &Domain, grace: i64) -> Domain {
    let (id, now) = (domain_id(domain), gate.clock.now());
    let new = ClientSecret::random();
    change(gate, |conn| {
        secret::rotate(conn, id, &new, grace, gatebird::db::audit::Actor::SERVER, now).map(drop).map_err(Into::into)
    });
    Domain { id: domain.id.clone(), secret: new.reveal().to_owned() }
}

pub fn domain_id(domain: &Domain) -> DomainId {
    DomainId::parse(&domain.id).expect("a domain's id")
}

fn sign_in(gate: &Gate, username: &str, password: &str) -> User {
    let body = json!({"username": username, "password": password});
    let answer = gate.post("/v1/signin").json(&body).send().expect(200);
    let id = answer["payload"]["id"].as_i64().expect("a number");
    User { token: answer["token"].as_str().expect("a token").into(), id }
}

#[test]
fn gen_claim__forged() {
    let target = Target::new();
    target.claims_get("an earlier one", REVOKED, |claims| {
        claims["gen"] = json!(claims["gen"].as_i64().expect("a number") - 1)
    });
    target.claims_get("far below", REVOKED, |claims| claims["gen"] = json!(i64::MIN));
    target.claims_get("a string", INVALID, |claims| claims["gen"] = json!("0"));
    let earlier = resigned(&target.user.token, |_, claims| claims["gen"] = json!(-1));
    target.gets("an earlier one of the user", &earlier, REVOKED);
}

#[test]
fn password_change__revokes_earlier_tokens() {
    let target = Target::new();
    let (gate, new) = (&target.gate, "another correct horse battery staple");
    let body = json!({"oldPassword": PASSWORD, "newPassword": new});
    gate.put("/v1/me/password").token(&target.user.token).json(&body).send().expect(200);
    target.gets("the user's token", &target.user.token, REVOKED);
    target.gets("the domain's token", &target.token, REVOKED);
    let user = sign_in(gate, "alice", new);
    target.gets("the user's next token", &user.token, GOOD);
    target.gets("the domain's next token", &gate.access_token(&target.domain), GOOD);
}

#[test]
fn suspension__revokes_tokens_for_good() {
    let target = Target::new();
    let gate = &target.gate;
    let id = domain_id(&target.domain);
    change(gate, |conn| Ok(domain::set_suspended(conn, id, true)?));
    target.gets("while suspended", &target.token, REVOKED);
    target.gets("the owner's", &target.user.token, GOOD);
    let forged = target.with_claims(|claims| claims["gen"] = json!(i64::MAX));
    target.gets("of a later generation", &forged, REVOKED);
    change(gate, |conn| Ok(domain::set_suspended(conn, id, false)?));
    target.gets("after it", &target.token, REVOKED);
    let token = gate.access_token(&target.domain);
    target.gets("a later token", &token, GOOD);

    let owner = gate.app.directory.tenant(target.user.id).expect("alice").id;
    change(gate, |conn| Ok(user::set_suspended(conn, owner, true)?));
    target.gets("the domain's while its owner is suspended", &token, REVOKED);
    target.gets("the suspended user's", &target.user.token, REVOKED);
    change(gate, |conn| Ok(user::set_suspended(conn, owner, false)?));
    target.gets("the domain's after it", &token, REVOKED);
    target.gets("the user's after it", &target.user.token, REVOKED);
    target.gets("the user's later one", &sign_in(gate, "alice", PASSWORD).token, GOOD);
    target.gets("the domain's later one", &gate.access_token(&target.domain), GOOD);
}

#[test]
fn secret_rotation__without_grace_revokes_tokens() {
    let target = Target::new();
    let gate = &target.gate;
    let second = rotate(gate, &target.domain, 3600);
    target.gets("with a grace", &target.token, GOOD);
    let token = gate.access_token(&second);
    let third = rotate(gate, &target.domain, 0);
    target.gets("the first secret's", &target.token, REVOKED);
    target.gets("the second secret's", &token, REVOKED);
    target.gets("the third secret's", &gate.access_token(&third), GOOD);
    target.gets("the owner's", &target.user.token, GOOD);
}

#[test]
fn deletion__revokes_tokens_of_domain_and_account() {
    let target = Target::new();
    let gate = &target.gate;
    let other = gate.register(&target.user, "other.example.com");
    let other_token = gate.access_token(&other);
    gate.delete(&format!("/v1/domains/{}", target.domain.id)).token(&target.user.token).send().expect(200);
    target.gets("the deleted domain's", &target.token, REVOKED);
    target.gets("the other domain's", &other_token, GOOD);
    // The same host registered again is another domain.
    let again = gate.register(&target.user, "alice.example.com");
    target.gets("after registering again", &target.token, REVOKED);
    target.gets("the new domain's", &gate.access_token(&again), GOOD);

    gate.delete("/v1/me").token(&target.user.token).json(&json!({"password": PASSWORD})).send().expect(200);
    target.gets("the deleted user's", &target.user.token, REVOKED);
    target.gets("the deleted user's domain's", &other_token, REVOKED);
    let body = json!({"username": "alice", "password": PASSWORD});
    gate.post("/v1/signup").json(&body).send().refused(409, "taken");
    let other = gate.sign_up("bob");
    assert_ne!(other.id, target.user.id, "an id is never reused");
    target.gets("after somebody else has signed up", &target.user.token, REVOKED);
    target.gets("the other user's", &other.token, GOOD);
}
