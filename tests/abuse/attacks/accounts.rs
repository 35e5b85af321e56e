//! Attacks by users with accounts, within the usual limits.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::json;

use super::ATTACKER;
use crate::Result;
use crate::attack::{Job, Run, flood};
use crate::bystander;
use crate::client::{Client, Reply, member};
use crate::people::{Account, Key, PASSWORD, asserted, credentials, random, registration};
use crate::request;
use crate::stage::{Stage, VICTIM};

/// The pause of an attacker after a refusal or a broken connection.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(50);

/// That many threads with the same job.
fn threads(count: usize, job: impl Fn() -> Job) -> Vec<Job> {
    (0..count).map(|_| job()).collect()
}

/// A connection that sends one request at a time and counts the answers.
struct Caller<'a> {
    run: &'a Run,
    server: SocketAddr,
    from: Ipv4Addr,
    client: Option<Client>,
}

impl<'a> Caller<'a> {
    fn new(run: &'a Run, server: SocketAddr) -> Self {
        Self { run, server, from: ATTACKER, client: None }
    }

    /// The answer, if it has that status. Waits after any other answer.
    fn call(&mut self, request: &[u8], expect: u16) -> Option<Reply> {
        if self.client.is_none() {
            self.client = Client::connect(self.server, self.from).ok();
        }
        let reply = self.client.as_mut().and_then(|client| client.call(request).ok());
        match reply {
            Some(reply) => {
                self.run.count(reply.status.to_string(), 1);
                if reply.status == expect {
                    return Some(reply);
                }
            }
            None => self.client = None,
        }
        self.run.pause(AFTER_A_REFUSAL);
        None
    }
}

pub(super) fn delete_large_account(stage: &mut Stage) -> Result<Vec<Job>> {
    const HASHTAGS: u32 = 70;
    let posts = if stage.quick { 4_000 } else { 40_000 };
    let account = Account::sign_up(stage.address(), ATTACKER, "hoarder")?;
    let user = account.id;
    stage.write(&format!(
        "WITH RECURSIVE post (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM post WHERE number < {posts})
         INSERT INTO posts (user_id, content, created_at, updated_at) SELECT {user}, '#a', 0, 0 FROM post;
         WITH RECURSIVE tag (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM tag WHERE number < {HASHTAGS})
         INSERT INTO post_hashtags (user_id, title, post_id)
         SELECT {user}, 't' || number, id FROM tag CROSS JOIN posts WHERE user_id = {user};"
    ))?;
    let server = stage.address();
    let answer = crate::client::once(
        server,
        ATTACKER,
        &request::post("/v1/signin", &credentials("hoarder", PASSWORD), None),
        200,
    )?;
    let token = member(&answer, "token")?;
    let delete = request::json("DELETE", "/v1/me", &json!({ "password": PASSWORD }), Some(&token));
    Ok(threads(4, || {
        let delete = delete.clone();
        Box::new(move |run| {
            let mut caller = Caller::new(run, server);
            while !run.is_over() {
                caller.call(&delete, 200);
            }
        })
    }))
}

pub(super) fn fresh_assertions(stage: &mut Stage) -> Result<Vec<Job>> {
    let (server, accounts) = (stage.address(), if stage.quick { 4 } else { 32 });
    let mut jobs = Vec::new();
    for number in 0..accounts {
        let account = Account::sign_up(server, ATTACKER, &format!("asserter{number}"))?;
        let key = Key::generate()?;
        let domain = account.register(&format!("a{number}.example.com"), "premium", Some(key.public()))?;
        jobs.push(flood(server, ATTACKER, 8, move || {
            asserted("/revoke", &key.assertion(&domain.id, server, &random().to_string()), "token=x")
        }));
    }
    Ok(jobs)
}

pub(super) fn unknown_names(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let next = || request::post("/v1/signin", &credentials(&format!("unknown{:016x}", random()), PASSWORD), None);
    Ok(threads(32, || flood(server, ATTACKER, 1, next)))
}

pub(super) fn weak_passwords(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "weak")?;
    let body = json!({ "oldPassword": PASSWORD, "newPassword": "password" });
    let change = request::json("PUT", "/v1/me/password", &body, Some(&account.token));
    Ok(threads(40, || {
        let change = change.clone();
        flood(server, ATTACKER, 1, move || change.clone())
    }))
}

pub(super) fn revocations(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "revoker")?;
    let domain = account.register("revoker.example.com", "premium", None)?;
    Ok(threads(160, || {
        let domain = domain.clone();
        Box::new(move |run| {
            let mut caller = Caller::new(run, server);
            let fetch = domain.token_request();
            while !run.is_over() {
                let Some(reply) = caller.call(&fetch, 200) else { continue };
                let body = format!("token={}", member(&reply.body, "token").unwrap_or_default());
                if caller.call(&request::form("/revoke", &body, &domain.id, &domain.secret), 200).is_some() {
                    run.count("revocations", 1);
                }
            }
        })
    }))
}

/// Domains of an account whose hosts are checked repeatedly, on that many connections.
fn host_checks(stage: &Stage, account: &Account, hosts: &[String], connections: usize) -> Result<Vec<Job>> {
    let mut requests = Vec::new();
    for host in hosts {
        let id = account.register(host, "free", None)?.id;
        let path = format!("/v1/domains/{id}/verification");
        requests.push(request::without_body("POST", &path, Some(&account.token)));
    }
    Ok(threads(connections, || {
        let requests = requests.clone();
        flood(stage.address(), account.from, 1, move || requests[random() as usize % requests.len()].clone())
    }))
}

pub(super) fn silent_hosts(stage: &mut Stage) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for number in 0..8 {
        let account = Account::sign_up(stage.address(), ATTACKER, &format!("prover{number}"))?;
        let hosts: Vec<_> = (0..20).map(|host| format!("h{host}.silent{number}.example.com")).collect();
        jobs.extend(host_checks(stage, &account, &hosts, 6)?);
    }
    Ok(jobs)
}

pub(super) fn host_checks_of_victim(stage: &mut Stage) -> Result<Vec<Job>> {
    let victim = TcpListener::bind((Ipv4Addr::from(VICTIM), 0))?;
    victim.set_nonblocking(true)?;
    let port = victim.local_addr()?.port();
    let account = Account::sign_up(stage.address(), ATTACKER, "gazer")?;
    let hosts: Vec<_> = (0..40).map(|number| format!("h{number}.victim.example.com:{port}")).collect();
    let mut jobs = host_checks(stage, &account, &hosts, 4)?;
    jobs.push(Box::new(move |run| {
        run.count("connections to the victim", 0);
        while !run.is_over() {
            match victim.accept() {
                Ok(_) => run.count("connections to the victim", 1),
                Err(_) => run.pause(Duration::from_millis(10)),
            }
        }
    }));
    Ok(jobs)
}

pub(super) fn sign_ups(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    Ok(threads(8, || {
        Box::new(move |run| {
            let mut caller = Caller::new(run, server);
            while !run.is_over() {
                let body = credentials(&format!("cheap{:016x}", random()), PASSWORD);
                let Some(reply) = caller.call(&request::post("/v1/signup", &body, None), 201) else { continue };
                run.count("accounts", 1);
                let token = member(&reply.body, "token").unwrap_or_default();
                for _ in 0..100 {
                    let body = registration(&format!("d{:016x}.example.com", random()), "free", None);
                    if run.is_over() || caller.call(&request::post("/v1/domains", &body, Some(&token)), 201).is_none() {
                        break;
                    }
                    run.count("domains", 1);
                }
            }
        })
    }))
}

pub(super) fn new_meters(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "renewer")?;
    let job: Job = Box::new(move |run| {
        let mut caller = Caller::new(run, server);
        let token = Some(account.token.as_str());
        let register = request::post("/v1/domains", &registration("again.example.com", "free", None), token);
        while !run.is_over() {
            let Some(reply) = caller.call(&register, 201) else { continue };
            let secret = member(&reply.body, "clientSecret").unwrap_or_default();
            let fetch = request::post("/token", &json!({ "clientSecret": secret }), None);
            while !run.is_over() && caller.call(&fetch, 200).is_some() {
                run.count("tokens", 1);
            }
            let path = format!("/v1/domains/{}", member(&reply.body, "id").unwrap_or_default());
            while !run.is_over() && caller.call(&request::without_body("DELETE", &path, token), 200).is_none() {}
        }
    });
    Ok(vec![job])
}

pub(super) fn long_lists(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "lister")?;
    let write = |number: usize| {
        let body = json!({ "content": format!("post {number} {}", "#tag ".repeat(20)) });
        request::post("/v1/posts", &body, Some(&account.token))
    };
    let mut writer = Client::connect(server, ATTACKER)?;
    for number in 0..110 {
        let status = writer.call(&write(number))?.status;
        if status != 201 {
            return Err(format!("status {status} of a post").into());
        }
    }
    let paths = [
        "/v1/posts/my?limit=100",
        "/v1/posts/hashtag/tag?limit=100",
        "/v1/audit?limit=100",
        "/v1/posts/my?limit=100&cursor=AAAAAAAAAAA",
        "/v1/posts/my?limit=100&cursor=%00%ff",
    ];
    let requests = paths.map(|path| request::get(path, Some(&account.token)));
    Ok(threads(16, || {
        let requests = requests.clone();
        flood(server, ATTACKER, 1, move || requests[random() as usize % requests.len()].clone())
    }))
}

pub(super) fn rotations(stage: &mut Stage) -> Result<Vec<Job>> {
    let account = Account::sign_up(stage.address(), ATTACKER, "rotator")?;
    let domain = account.register("rotator.example.com", "premium", None)?;
    let path = format!("/v1/domains/{}/secrets", domain.id);
    let rotate = request::post(&path, &json!({ "graceSeconds": 0 }), Some(&account.token));
    let server = stage.address();
    Ok(threads(32, || {
        let rotate = rotate.clone();
        flood(server, ATTACKER, 1, move || rotate.clone())
    }))
}

pub(super) fn deletions(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let account = Account::sign_up(server, ATTACKER, "deleter")?;
    let delete = request::without_body("DELETE", "/v1/posts/1", Some(&account.token));
    Ok(threads(64, || {
        let delete = delete.clone();
        flood(server, ATTACKER, 1, move || delete.clone())
    }))
}

pub(super) fn wrong_passwords(stage: &mut Stage) -> Result<Vec<Job>> {
    let server = stage.address();
    let next = || request::post("/v1/signin", &credentials(bystander::NAME, &format!("{:016x}", random())), None);
    Ok(threads(8, || flood(server, ATTACKER, 1, next)))
}
