//! `gatebird version-use`: lists the domains that still call a version of the API, before the operator ends it.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::operator::Operator;
use crate::app;
use crate::db::usage::{self, DomainUsage};
use crate::exit::Exit;
use crate::id::DomainId;
use crate::usage::DAY;
use crate::usage::date;

#[derive(Args)]
pub(super) struct VersionUse {
    /// The version of the API.
    #[arg(default_value = "v1", value_parser = ["v1"])]
    version: String,
    /// The number of days up to today.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=app::USAGE_DAYS))]
    days: i64,
}

impl Operator {
    /// Prints each domain with the day of its last request and the number of its requests.
    pub(super) fn version_use(&self, command: &VersionUse) -> Result<(), Exit> {
        let today = app::system_time().div_euclid(DAY);
        let rows = self.read(|conn| Ok(usage::domains_with(conn, &command.version, today - command.days + 1)?))?;
        // The latest day comes first.
        let mut order: Vec<DomainId> = Vec::new();
        let mut users: BTreeMap<String, DomainUsage> = BTreeMap::new();
        for row in rows {
            let id = row.domain;
            match users.get_mut(id.as_str()) {
                Some(known) => known.count += row.count,
                None => {
                    order.push(id);
                    users.insert(id.to_string(), row);
                }
            }
        }
        let users: Vec<&DomainUsage> = order.iter().filter_map(|id| users.get(id.as_str())).collect();
        let value = |user: &&DomainUsage| json!({ "id": user.domain.as_str(), "host": user.host, "user": user.username, "lastDay": date(user.day), "requests": user.count });
        let line = |user: &&DomainUsage| {
            format!("{} {:<30} {:<20} {} {:>9}", user.domain, user.host, user.username, date(user.day), user.count)
        };
        let lines: Vec<String> = users.iter().map(line).collect();
        let none = format!("no domain called {} in {} days", command.version, command.days);
        self.out.print(
            &json!(users.iter().map(value).collect::<Vec<_>>()),
            &if lines.is_empty() { none } else { lines.join("\n") },
        )
    }
}
