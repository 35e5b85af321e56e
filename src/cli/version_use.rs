//! `gatebird version-use`: lists the domains that still call a version of the API, before the operator ends it.

use clap::Args;
use serde_json::json;

use super::operator::Operator;
use crate::actions::usage;
use crate::app;
use crate::db::usage::DomainUsage;
use crate::exit::Exit;
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
        let VersionUse { version, days } = command;
        let callers = self.read(|conn| usage::callers_of(conn, version, *days, app::system_time()))?;
        let show = |DomainUsage { domain, host, username, day, count }: &DomainUsage| {
            let (id, day) = (domain.as_str(), date(*day));
            let line = format!("{id} {host:<30} {username:<20} {day} {count:>9}");
            (json!({ "id": id, "host": host, "user": username, "lastDay": day, "requests": count }), line)
        };
        self.out.print_list(&callers, show, &format!("no domain called {version} in {days} days"))
    }
}
