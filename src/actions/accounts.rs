//! Accounts: sign-up, sign-in, and changes of the own account.

use std::sync::Arc;

use serde_json::json;

use super::{conflict_on, secrets};
use crate::app::{App, Caller, InForce, KNOWN_NETWORK};
use crate::db::audit::Audited;
use crate::db::user::{self, NewUser, Tenant, UserRow};
use crate::db::{Conn, known_network, revocation};
use crate::error::{Error, Result};
use crate::id::{TokenId, UserId};
use crate::locale::Message;
use crate::name::{Nick, Username};
use crate::password::Password;
use crate::shares::{Attempt, Budget, Guesser, Holder, Network};
use crate::usage::DAY;

/// The last second of the year 9999.
const END_OF_CALENDAR: i64 = 253_402_300_799;

/// A new account without its password.
pub(crate) struct Signup {
    username: Username,
    nick: Nick,
}

impl Signup {
    /// Parses what a person typed. Without a nick, the username is the nick.
    pub(crate) fn parse(username: &str, nick: Option<&str>) -> Result<Signup> {
        Ok(Signup {
            username: Username::parse(username).map_err(|problem| Error::field("username", problem))?,
            nick: Nick::parse(nick.unwrap_or(username)).map_err(|problem| Error::field("nick", problem))?,
        })
    }

    /// Words that the password must not consist of.
    pub(crate) fn context(&self) -> [String; 2] {
        [self.username.as_str(), self.nick.as_str()].map(str::to_owned)
    }

    pub(crate) fn with_hash(self, password_hash: String, now: i64) -> NewUser {
        NewUser {
            username_key: Username::key(self.username.as_str()),
            username: self.username.into_string(),
            nick: self.nick.into_string(),
            password_hash,
            created_at: now,
        }
    }
}

/// Makes an account.
///
/// # Errors
/// When sign-up is closed, the server has too many accounts, the network made too many, a member is malformed, the
/// password is weak, or the username is taken; as [`App::write`].
pub(crate) async fn sign_up(
    app: &Arc<App>,
    caller: Caller,
    username: &str,
    nick: Option<&str>,
    password: String,
) -> Result<Tenant> {
    if !app.config.signup_open {
        return Err(Error::SignupClosed);
    }
    app.check_max_users()?;
    app.spend(Budget::SignUps(caller.network()))?;
    let signup = Signup::parse(username, nick)?;
    let password = app.hasher.validate(caller.holder, password, signup.context()).await?;
    let password = password.map_err(|problem| Error::field("password", problem))?;
    app.spend(Budget::NewAccounts(caller.network()))?;
    let hash = app.hasher.hash(caller.holder, password).await?;
    let user = signup.with_hash(hash, app.now());
    let insert = move |conn: &mut Conn| {
        let tenant = user::insert(conn, &user).map_err(conflict_on("username", Message::UsernameTaken))?;
        known_network::remember(conn, tenant.id, caller.network(), user.created_at)?;
        let entry = caller.actor.event("user.signed_up", tenant.id, Some(tenant.id), user.created_at);
        Ok(Audited::new(tenant, entry))
    };
    app.write(caller, InForce::Soon, insert).await
}

/// Returns the account if the password is right.
///
/// # Errors
/// An unknown name or a wrong password, which the caller cannot tell apart; too many sign-ins from the network; too
/// many wrong passwords for the name.
pub(crate) async fn sign_in(app: &Arc<App>, caller: Caller, username: &str, password: &str) -> Result<Tenant> {
    app.spend(Budget::SignIns(caller.network()))?;
    let password = Password::typed(password).ok_or(Error::WrongCredentials)?;
    let key = Username::key(username);
    let found = Candidate::read(app, username, &key, caller).await?;
    let attempt = begin_attempt(app, found.guesser(&key, caller.network(), app.trusted_now()))?;
    // An account that is known in the network has a share of its own.
    let caller = Caller { holder: attempt.holder(caller.network()), ..caller };
    let owner = end_attempt(app, attempt, check_owner(app, &found, password, caller).await)?;
    let (tenant, rehashed) = owner.ok_or(Error::WrongCredentials)?;
    remember_sign_in(app, &found, rehashed, caller).await;
    Ok(tenant.clone())
}

/// The account of the name in a sign-in, if there is one, with what the check of the password needs.
struct Candidate {
    user: Option<UserRow>,
    /// See [`user::max_hash_cost`].
    max_hash_cost: u32,
    /// When the user last signed in from this network, in Unix seconds.
    seen_at: Option<i64>,
}

impl Candidate {
    async fn read(app: &App, username: &str, key: &str, caller: Caller) -> Result<Candidate> {
        // A text that cannot be a name is looked up under a name that no account can have, so that the look-up takes as
        // long.
        let key = if Username::is_spelled(username) { key.to_owned() } else { String::new() };
        let read = move |conn: &mut Conn| {
            Ok(Candidate {
                user: user::find_by_name(conn, &key)?,
                max_hash_cost: user::max_hash_cost(conn)?,
                seen_at: known_network::seen_at(conn, &key, caller.network())?,
            })
        };
        app.db.read(caller.holder, read).await
    }

    fn guesser<'a>(&self, key: &'a str, network: Network, now: i64) -> Guesser<'a> {
        match self.seen_at {
            Some(seen_at) if seen_at > now - KNOWN_NETWORK => Guesser::KnownNetwork(key, network),
            _ => Guesser::Strangers(key),
        }
    }
}

/// Counts an attempt before the password is checked.
fn begin_attempt(app: &App, guesser: Guesser<'_>) -> Result<Attempt> {
    let attempt = app.budgets.try_password(guesser, app.steady_now());
    attempt.map_err(|wait| Error::FailureLimit { wait, message: Message::PasswordLimit })
}

/// Gives the attempt back unless the password was wrong (`Ok(None)`).
fn end_attempt<T>(app: &App, attempt: Attempt, outcome: Result<Option<T>>) -> Result<Option<T>> {
    match outcome {
        Ok(Some(_)) => app.budgets.was_right(attempt),
        Ok(None) => {}
        Err(_) => app.budgets.was_not_tried(attempt),
    }
    outcome
}

/// Returns the account if the password is right, with a newer hash of the password if the stored one is stale. The
/// time that this takes does not depend on whether there is an account.
async fn check_owner<'a>(
    app: &App,
    found: &'a Candidate,
    password: Password,
    caller: Caller,
) -> Result<Option<(&'a Tenant, Option<String>)>> {
    let hash = found.user.as_ref().map(|user| user.password_hash.clone());
    let checked = app.hasher.check(caller.holder, password, hash, found.max_hash_cost).await?;
    let tenant = found.user.as_ref().map(|user| &user.tenant);
    let owner = tenant.filter(|tenant| checked.matches && !tenant.suspended);
    if owner.is_none() {
        // Without the name that was typed: people type passwords there.
        let entry = |tenant: &Tenant| caller.actor.event("user.signin_failed", tenant.id, Some(tenant.id), app.now());
        app.note_failure(tenant.map(entry));
    }
    Ok(owner.map(|tenant| (tenant, checked.rehashed)))
}

/// Remembers the network and stores the newer hash. A failure is logged only: the password was right, and the next
/// sign-in tries again.
async fn remember_sign_in(app: &Arc<App>, found: &Candidate, rehashed: Option<String>, caller: Caller) {
    let now = app.trusted_now();
    let is_noted = found.seen_at.is_some_and(|seen_at| seen_at > now - DAY);
    let Some(UserRow { tenant, password_hash, .. }) = found.user.as_ref().filter(|_| !is_noted || rehashed.is_some())
    else {
        return;
    };
    let (id, checked, network) = (tenant.id, password_hash.clone(), caller.network());
    let remember = move |conn: &mut Conn| {
        if let Some(rehashed) = rehashed {
            user::set_hash(conn, id, &checked, &rehashed)?;
        }
        Ok(Audited::nothing(known_network::remember(conn, id, network, now)?))
    };
    if let Err(error) = app.write(caller, InForce::Soon, remember).await {
        log::warn!("cannot store a sign-in: {}", error.cause().unwrap_or("the database is unavailable"));
    }
}

/// A signed-in user.
#[derive(Clone, Copy)]
pub(crate) struct SignedIn<'a> {
    pub(crate) caller: Caller,
    pub(crate) tenant: &'a Tenant,
    /// The user token.
    pub(crate) token: TokenId,
    /// The token's `exp`.
    pub(crate) expires_at: i64,
}

impl SignedIn<'_> {
    fn id(self) -> UserId {
        self.tenant.id
    }

    /// The holder of the share that is reserved for ending a theft.
    fn reserved(self) -> Holder {
        self.caller.holder.ends_theft()
    }
}

/// Changes the password, which revokes every earlier token of the user and of the user's domains. Also ends the client
/// secrets and public keys that were made or set at the Unix second `end_secrets_since` or later.
///
/// # Errors
/// A weak password, a wrong old one, too many attempts; as [`App::write`]. Secrets may have ended then; the password is
/// changed last, so that the request can be repeated.
pub(crate) async fn change_password(
    app: &Arc<App>,
    user: SignedIn<'_>,
    old: &str,
    new: String,
    end_secrets_since: Option<i64>,
) -> Result<()> {
    if end_secrets_since.is_some_and(|since| !(0..=END_OF_CALENDAR).contains(&since)) {
        return Err(Error::field("endSecretsSince", Message::EndSecretsSince));
    }
    // The new password first: a refused request must not cost a hash.
    let context = [user.tenant.username.to_string(), user.tenant.nick.to_string()];
    let new = app.hasher.validate(user.reserved(), new, context).await?;
    let new = new.map_err(|problem| Error::field("newPassword", problem))?;
    let (old, attempt) = confirm(app, user, old).await?;
    app.budgets.was_right(attempt);
    let hash = app.hasher.hash(user.reserved(), new).await?;
    let (id, actor, now) = (user.id(), user.caller.actor, app.now());
    let mut is_set = false;
    while !is_set {
        let (old, hash) = (old.clone(), hash.clone());
        let set = move |conn: &mut Conn| {
            let mut entries = match end_secrets_since {
                Some(since) => secrets::end_since(conn, actor, id, since, now)?,
                None => Vec::new(),
            };
            if entries.len() == secrets::ENDED_BATCH {
                // There may be more of them.
                return Ok(Audited::several(false, entries));
            }
            if !user::set_password(conn, id, &old, &hash)? {
                return Err(Error::WrongPassword);
            }
            let changed = actor.event("user.password_changed", id, Some(id), now);
            entries.push(match end_secrets_since {
                Some(since) => changed.with(json!({ "endSecretsSince": since })),
                None => changed,
            });
            Ok(Audited::several(true, entries))
        };
        is_set = app.write(user.caller, InForce::BeforeAnswer, set).await?;
    }
    Ok(())
}

/// Revokes the user token, or with `everywhere` every token of the user and of the user's domains.
///
/// # Errors
/// As [`App::write`].
pub(crate) async fn sign_out(app: &Arc<App>, user: SignedIn<'_>, everywhere: bool) -> Result<()> {
    let (id, token, expires_at) = (user.id(), user.token, user.expires_at);
    let entry = user.caller.actor.event("user.signed_out", id, Some(id), app.now());
    let end = move |conn: &mut Conn| {
        if everywhere {
            user::end_tokens(conn, id)?;
            return Ok(Audited::new((), entry.with(json!({ "everywhere": true }))));
        }
        revocation::insert(conn, token, expires_at)?;
        Ok(Audited::new((), entry))
    };
    app.write(user.caller, InForce::BeforeAnswer, end).await
}

/// Ends the account: its tokens are refused at once, and its data is removed soon after.
///
/// # Errors
/// A wrong password, too many attempts; as [`App::write`].
pub(crate) async fn delete(app: &Arc<App>, user: SignedIn<'_>, password: &str) -> Result<()> {
    // The attempt stays counted although the password is right: repeated deletions that fail must have a bound too.
    let (checked, _counted) = confirm(app, user, password).await?;
    let (id, now) = (user.id(), app.now());
    let entry = user.caller.actor.event("user.deleted", id, Some(id), now);
    let delete = move |conn: &mut Conn| {
        let is_ended = user::end(conn, id, &checked, now)?;
        if is_ended { Ok(Audited::new((), entry)) } else { Err(Error::WrongPassword) }
    };
    app.write(user.caller, InForce::BeforeAnswer, delete).await
}

/// Checks the user's present password. Returns the hash that it was checked against, and the attempt, which is still
/// counted. Attempts are counted by token: wrong passwords from others do not keep the owner from ending a theft, and a
/// thief with a stolen token may try no more passwords than any other caller.
async fn confirm(app: &App, user: SignedIn<'_>, password: &str) -> Result<(String, Attempt)> {
    let password = Password::typed(password).ok_or(Error::WrongPassword)?;
    let attempt = begin_attempt(app, Guesser::Token(user.token))?;
    match matching_hash(app, user, password).await {
        Ok(hash) => Ok((hash.ok_or(Error::WrongPassword)?, attempt)),
        Err(error) => {
            app.budgets.was_not_tried(attempt);
            Err(error)
        }
    }
}

async fn matching_hash(app: &App, user: SignedIn<'_>, password: Password) -> Result<Option<String>> {
    let (id, holder) = (user.id(), user.reserved());
    let row = app.db.read(holder, move |conn| Ok(user::find(conn, id)?)).await?;
    let hash = row.ok_or(Error::TokenRevoked)?.password_hash;
    // The caller knows whose account it is, so the time of a refusal may tell how the password is stored.
    let matches = app.hasher.check(holder, password, Some(hash.clone()), 0).await?.matches;
    if !matches {
        let entry = user.caller.actor.event("user.confirmation_failed", id, Some(id), app.now());
        app.note_failure(Some(entry));
    }
    Ok(matches.then_some(hash))
}
