//! How many accounts and domains there may be in all: the operator's bound of the memory that they take.

use std::sync::atomic::{AtomicBool, Ordering};

use super::App;
use crate::config::Config;
use crate::db::{Conn, domain, user};
use crate::error::{Error, Result};
use crate::locale::Message;

/// Whether the log says already that a bound is near.
#[derive(Debug, Default)]
pub(super) struct Warned {
    users: AtomicBool,
    domains: AtomicBool,
}

impl App {
    /// Refuses another account beyond `MAX_USERS`. Requests at the same moment, also at other nodes, may pass together.
    pub(crate) fn check_max_users(&self) -> Result<()> {
        check(self.directory.user_count() + 1, self.config.max_users, Message::MaxUsers)
    }

    /// Refuses another domain beyond `MAX_DOMAINS`, as [`App::check_max_users`] does.
    pub(crate) fn check_max_domains(&self) -> Result<()> {
        check(self.directory.domain_count() + 1, self.config.max_domains, Message::MaxDomains)
    }

    /// Warns once when four fifths of a bound are reached.
    pub(super) fn warn_of_bounds(&self) {
        let (users, domains) = (self.directory.user_count(), self.directory.domain_count());
        for (warned, count, max, setting) in [
            (&self.warned.users, users, self.config.max_users, "MAX_USERS"),
            (&self.warned.domains, domains, self.config.max_domains, "MAX_DOMAINS"),
        ] {
            let Some(max) = max else { continue };
            let is_near = count as i64 * 5 >= max * 4;
            if is_near && !warned.swap(is_near, Ordering::Relaxed) {
                log::warn!("{count} of {max} that {setting} allows; beyond it, sign-up or registration is refused");
            }
            warned.store(is_near, Ordering::Relaxed);
        }
    }
}

/// Refuses what the command line has added beyond `MAX_USERS` or `MAX_DOMAINS`, in the transaction that added it.
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
