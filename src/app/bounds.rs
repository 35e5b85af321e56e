//! `MAX_USERS` and `MAX_DOMAINS`: limits on the total number of accounts and domains, which bound the server's memory.

use std::sync::atomic::{AtomicBool, Ordering};

use super::App;
use crate::config::Config;
use crate::db::{Conn, domain, user};
use crate::error::{Error, Result};
use crate::locale::Message;

/// Whether the log already warns that a limit is near.
#[derive(Debug, Default)]
pub(super) struct Warned {
    users: AtomicBool,
    domains: AtomicBool,
}

impl App {
    /// Refuses another account beyond `MAX_USERS`. Concurrent requests may exceed the limit together.
    pub(crate) fn check_max_users(&self) -> Result<()> {
        check(self.directory.user_count() + 1, self.config.max_users, Message::MaxUsers)
    }

    /// Refuses another domain beyond `MAX_DOMAINS`. Concurrent requests may exceed the limit together.
    pub(crate) fn check_max_domains(&self) -> Result<()> {
        check(self.directory.domain_count() + 1, self.config.max_domains, Message::MaxDomains)
    }

    /// Warns once when 80 % of a limit is reached.
    pub(super) fn warn_of_bounds(&self) {
        let (users, domains) = (self.directory.user_count(), self.directory.domain_count());
        for (warned, count, max, setting) in [
            (&self.warned.users, users, self.config.max_users, "MAX_USERS"),
            (&self.warned.domains, domains, self.config.max_domains, "MAX_DOMAINS"),
        ] {
            let Some(max) = max else { continue };
            let is_near = count as i64 * 5 >= max * 4;
            if is_near && !warned.swap(is_near, Ordering::Relaxed) {
                log::warn!("{setting}: {count} of {max} in use; beyond {max}, the server refuses new ones");
            }
            warned.store(is_near, Ordering::Relaxed);
        }
    }
}

/// Refuses a transaction of the command line that has exceeded `MAX_USERS` or `MAX_DOMAINS`.
pub(crate) fn check_stored(conn: &mut Conn, config: &Config) -> Result<()> {
    check(user::count_all(conn)?, config.max_users, Message::MaxUsers)?;
    check(domain::count_all(conn)?, config.max_domains, Message::MaxDomains)
}

fn check(count: usize, max: Option<i64>, refusal: Message) -> Result<()> {
    match max {
        Some(max) if count as i64 > max => Err(Error::Quota(refusal)),
        _ => Ok(()),
    }
}
