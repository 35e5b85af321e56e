//! Random requests of three tenants with each other's ids: the server answers like a small model in memory.

use std::collections::BTreeMap;

use crate::harness::{Gate, Request, Value, json};
use crate::random::Random;

const TAGS: [&str; 4] = ["rust", "go", "여행", "x"];

/// The owner and the value of each id: a post's hashtag or a domain's plan. A deleted one stays as `None`.
type Table<Id> = BTreeMap<Id, Option<(usize, String)>>;

/// Any id of any tenant, including deleted ones.
fn any_id<Id: Clone>(table: &Table<Id>, random: &mut Random) -> Option<Id> {
    let at = random.below(table.len().max(1));
    table.keys().nth(at).cloned()
}

/// What `tenant` owns, in order of the ids.
fn owned<Id: Clone>(table: &Table<Id>, tenant: usize) -> Vec<(Id, String)> {
    let rows = table.iter().filter_map(|(id, row)| Some((id.clone(), row.clone()?)));
    rows.filter(|(_, (owner, _))| *owner == tenant).map(|(id, (_, value))| (id, value)).collect()
}

/// Sends a request for one row and compares: 200 for the owner of an existing one, else 404.
fn expect_row<Id: Ord>(request: Request, table: &Table<Id>, id: &Id, tenant: usize) -> Option<Value> {
    let reply = request.send();
    match table.get(id) {
        Some(Some((owner, _))) if *owner == tenant => Some(reply.expect(200)["payload"].clone()),
        _ => {
            reply.refused(404, "not_found");
            None
        }
    }
}

#[test]
fn tenancy__random_requests_match_a_model() {
    let gate = Gate::start();
    let tenants: Vec<_> = ["alice", "bob", "carol"].iter().map(|name| gate.tenant(name)).collect();
    let mut posts: Table<i64> = BTreeMap::new();
    let mut domains: Table<String> = BTreeMap::new();
    for (number, (_, domain, _)) in tenants.iter().enumerate() {
        domains.insert(domain.id.clone(), Some((number, "free".into())));
    }
    let homes: Vec<&String> = tenants.iter().map(|(_, domain, _)| &domain.id).collect();
    let mut random = Random::seeded(20);
    for step in 0..300 {
        let tenant = random.below(3);
        let (user, _, access) = &tenants[tenant];
        let token = if random.below(2) == 0 { &user.token } else { access };
        let tag = *random.pick(&TAGS);
        let post = any_id(&posts, &mut random).unwrap_or(1);
        let post_path = format!("/v1/posts/{post}");
        let domain = any_id(&domains, &mut random).expect("a domain");
        let domain_path = format!("/v1/domains/{domain}");
        match random.below(11) {
            0 | 1 => {
                let body = json!({"content": format!("#{tag}")});
                let made = gate.post("/v1/posts").token(token).json(&body).send().expect(201);
                let id = made["payload"]["id"].as_i64().expect("a number");
                assert!(posts.insert(id, Some((tenant, tag.into()))).is_none(), "{id} is new");
            }
            2 => {
                let request = gate.put(&post_path).token(token).json(&json!({"content": format!("#{tag}")}));
                if expect_row(request, &posts, &post, tenant).is_some() {
                    posts.insert(post, Some((tenant, tag.into())));
                }
            }
            3 => {
                if expect_row(gate.delete(&post_path).token(token), &posts, &post, tenant).is_some() {
                    posts.insert(post, None);
                }
            }
            4 => {
                if let Some(payload) = expect_row(gate.get(&post_path).token(token), &posts, &post, tenant) {
                    let tag = posts[&post].as_ref().map(|(_, tag)| tag.as_str());
                    assert_eq!(payload["hashtags"][0].as_str(), tag, "step {step}");
                }
            }
            5 => {
                let list = gate.get("/v1/posts/my?limit=100").token(token).send().expect(200);
                let expected: Vec<_> =
                    owned(&posts, tenant).into_iter().rev().map(|(id, tag)| json!([id, [tag]])).collect();
                assert_eq!(listed(&list, ["id", "hashtags"]), expected, "step {step}");
            }
            6 => {
                let reply = gate.get(&format!("/v1/posts/hashtag/{}", percent(tag))).token(token).send();
                let with_tag = owned(&posts, tenant).into_iter().rev().filter(|(_, other)| other == tag);
                let expected: Vec<_> = with_tag.map(|(id, tag)| json!([id, [tag]])).collect();
                match expected.is_empty() {
                    true => drop(reply.refused(404, "not_found")),
                    false => assert_eq!(listed(&reply.expect(200), ["id", "hashtags"]), expected, "step {step}"),
                }
            }
            7 => {
                let body = json!({"host": format!("host{step}.example.com"), "type": "premium"});
                let made = gate.post("/v1/domains").token(&user.token).json(&body).send().expect(201);
                let id = made["payload"]["id"].as_str().expect("a string").to_owned();
                assert!(domains.insert(id, Some((tenant, "premium".into()))).is_none());
            }
            8 => {
                let plan = *random.pick(&["free", "premium"]);
                let request = gate.patch(&domain_path).token(&user.token).json(&json!({"type": plan}));
                if expect_row(request, &domains, &domain, tenant).is_some() {
                    domains.insert(domain, Some((tenant, plan.into())));
                }
            }
            // The domains of the access tokens stay.
            9 if !homes.contains(&&domain) => {
                if expect_row(gate.delete(&domain_path).token(&user.token), &domains, &domain, tenant).is_some() {
                    domains.insert(domain, None);
                }
            }
            _ => {
                if let Some(payload) = expect_row(gate.get(&domain_path).token(&user.token), &domains, &domain, tenant)
                {
                    let plan = domains[&domain].as_ref().map(|(_, plan)| plan.as_str());
                    assert_eq!(payload["type"].as_str(), plan, "step {step}");
                }
                let list = gate.get("/v1/domains").token(&user.token).send().expect(200);
                let mut found = listed(&list, ["id", "type"]);
                found.sort_by_key(Value::to_string);
                let expected: Vec<_> =
                    owned(&domains, tenant).into_iter().map(|(id, plan)| json!([id, plan])).collect();
                assert_eq!(found, expected, "step {step}");
            }
        }
    }
    assert!(posts.len() > 20 && domains.len() > 10, "{} {}", posts.len(), domains.len());
}

/// Two members of each row of a list.
fn listed(list: &Value, members: [&str; 2]) -> Vec<Value> {
    let rows = list["payload"].as_array().expect("an array");
    rows.iter().map(|row| json!([row[members[0]], row[members[1]]])).collect()
}

fn percent(title: &str) -> String {
    title.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
