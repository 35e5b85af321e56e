//! Parsers of a domain's members, for requests and the command line. An error names the member.

use std::collections::HashSet;

use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::{Host, LocalHosts};
use crate::locale::Message;
use crate::plan::Plan;
use crate::token::client_keys::{ClientKeys, KeysProblem};

pub(crate) fn plan(text: &str) -> Result<Plan> {
    Plan::parse(text).ok_or_else(|| Error::UnknownPlan(Plan::names().collect()))
}

pub(crate) fn host(text: &str, local: LocalHosts) -> Result<Host> {
    Host::parse(text, local).map_err(|problem| Error::field("host", problem))
}

/// Joins the requested names with spaces, as they are stored. Each must be known and given once.
fn some_of<'a>(
    known: impl IntoIterator<Item = &'a str>,
    asked: &[String],
    refusal: impl Fn() -> Error,
) -> Result<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let distinct = asked.iter().collect::<HashSet<_>>().len() == asked.len();
    let all_known = asked.iter().all(|name| known.contains(&name.as_str()));
    if distinct && all_known && !asked.is_empty() { Ok(asked.join(" ")) } else { Err(refusal()) }
}

pub(crate) fn scopes(asked: &[String], config: &Config) -> Result<String> {
    some_of(config.scopes.split(' '), asked, || Error::field("scopes", Message::Scopes))
}

pub(crate) fn audiences(asked: &[String], config: &Config) -> Result<String> {
    let known = config.audiences.iter().map(String::as_str);
    some_of(known, asked, || Error::field("audiences", Message::Audiences))
}

/// Parses a JWK Set of public keys.
pub(crate) fn keys(set: &Value) -> Result<ClientKeys> {
    ClientKeys::parse(set).map_err(|problem| {
        let problem = match problem {
            KeysProblem::Private => Message::PrivateKeys,
            KeysProblem::Shape => Message::Keys,
        };
        Error::field("jwks", problem)
    })
}
