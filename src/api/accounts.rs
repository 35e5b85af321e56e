//! Accounts: sign up, sign in, and what a user does with the own account.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, put, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{answer, done, secrets, taken};
use crate::app::{App, KNOWN_NETWORK};
use crate::db::audit::{Actor, Audited, Who};
use crate::db::user::{self, NewUser, User};
use crate::db::{Conn, known_network, revocation};
use crate::directory::Tenant;
use crate::error::{Error, Result};
use crate::gate::address::Address;
use crate::gate::bearer::UserToken;
use crate::gate::body::{Json, OptionalJson};
use crate::locale::{Locale, Message};
use crate::name::{Nick, Username};
use crate::password::Password;
use crate::shares::{Attempt, Budget, Guesser, Holder, Network};
use crate::token::present;
use crate::usage::DAY;

/// The last second of the year 9999.
const END_OF_CALENDAR: i64 = 253_402_300_799;

/// A user to be made, but for the password.
pub(crate) struct Signup {
    username: Username,
    nick: Nick,
}

impl Signup {
    /// Parses what a person typed; without a nick, the name serves.
    pub(crate) fn parse(username: &str, nick: Option<&str>) -> Result<Signup> {
        Ok(Signup {
            username: Username::parse(username).map_err(|problem| Error::field("username", problem))?,
            nick: Nick::parse(nick.unwrap_or(username)).map_err(|problem| Error::field("nick", problem))?,
        })
    }

    /// The words that the password may not be made of.
    pub(crate) fn context(&self) -> [String; 2] {
        [self.username.as_str(), self.nick.as_str()].map(str::to_owned)
    }

    /// The row to insert.
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

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignupBody {
    /// 3 to 40 letters of one script, digits or `. _ - + @`. It must look neither like an id, such as `usr_7`, nor like
    /// another name.
    #[schema(pattern = "^(?![Uu][Ss][Rr]_[0-9OoIl]+$)[^\\x00-*,/:-?\\[-\\^`{-\\xBF]{3,40}$")]
    username: String,
    /// 8 to 256 characters, hard to guess.
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    /// 1 to 40 characters; the username if absent. Invisible characters are removed, and full-width ones become plain.
    #[schema(pattern = "^(?=.*\\S)[^\\x00-\\x1F\\x7F-\\x9F]{1,40}$")]
    nick: Option<String>,
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigninBody {
    username: String,
    password: String,
}

/// A change of the password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    /// The present one.
    old_password: String,
    /// The one from now on: 8 to 256 characters, hard to guess.
    #[schema(min_length = 8, max_length = 256)]
    new_password: String,
    /// Unix seconds. Every client secret of the user's domains that was made at this time or later is retired at once, and
    /// public keys that were set since are removed: a thief may have made secrets of their own. 0 ends all of them.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, minimum = 0, maximum = 253_402_300_799_i64)]
    end_secrets_since: Option<i64>,
}

/// How to sign out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignoutBody {
    /// End every token of the user and of the user's domains.
    #[serde(default)]
    everywhere: bool,
}

/// A confirmation by password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfirmBody {
    password: String,
}

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Account<'a> {
    /// The user's number, as in the `id` claim.
    id: i64,
    username: &'a str,
    nick: &'a str,
}

impl<'a> From<&'a Tenant> for Account<'a> {
    fn from(tenant: &'a Tenant) -> Account<'a> {
        Account { id: tenant.id.get(), username: &tenant.username, nick: &tenant.nick }
    }
}

/// An account with a user token for it.
#[derive(Serialize, ToSchema)]
struct Session<'a> {
    /// The HTTP status.
    code: u16,
    /// For people.
    message: &'a str,
    /// A user token.
    token: &'a str,
    payload: Account<'a>,
}

fn session(status: StatusCode, message: Message, locale: Locale, app: &App, tenant: &Tenant) -> HttpResponse {
    HttpResponse::build(status).json(Session {
        code: status.as_u16(),
        message: message.text(locale),
        token: &app.user_token(tenant),
        payload: tenant.into(),
    })
}

/// Make an account.
#[utoipa::path(
    tag = "accounts",
    operation_id = "signUp",
    request_body = SignupBody,
    responses(
        (status = 201, description = "The account and a user token", body = Session),
        (status = 403, description = "Sign-up is closed (`signup_closed`), or the server has as many accounts as is allowed (`quota`)", body = crate::error::ErrorBody),
        (status = 409, description = "The username is taken", body = crate::error::ErrorBody),
        (status = 429, description = "Too many sign-ups from the network", body = crate::error::ErrorBody),
    ),
    security(())
)]
#[post("/signup")]
pub(crate) async fn sign_up(
    body: Json<SignupBody>,
    address: Address,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    if !app.config.signup_open {
        return Err(Error::SignupClosed);
    }
    app.check_max_users()?;
    address.spend(&app, Budget::SignUps)?;
    let body = body.0;
    let signup = Signup::parse(&body.username, body.nick.as_deref())?;
    let password = app.hasher.judge(address.holder(), body.password, signup.context()).await?;
    let password = password.map_err(|problem| Error::field("password", problem))?;
    let hash = app.hasher.hash(address.holder(), password).await?;
    let user = signup.with_hash(hash, app.now());
    let insert = move |conn: &mut Conn| {
        let tenant = user::insert(conn, &user).map_err(taken("username", Message::UsernameTaken))?;
        known_network::remember(conn, tenant.id, address.network(), user.created_at)?;
        let actor = Actor { who: Who::Anyone, address: address.0 };
        let entry = actor.did("user.signed_up", tenant.id, Some(tenant.id), user.created_at);
        Ok(Audited::new(tenant, entry))
    };
    let tenant = app.add(address.holder(), insert).await?;
    Ok(session(StatusCode::CREATED, Message::SignedUp, locale, &app, &tenant))
}

/// Sign in.
#[utoipa::path(
    tag = "accounts",
    operation_id = "signIn",
    request_body = SigninBody,
    responses(
        (status = 200, description = "The account and a user token", body = Session),
        (status = 401, description = "Unknown user or wrong password", body = crate::error::ErrorBody),
        (status = 429, description = "Too many sign-ins from the network, or too many wrong passwords for the name", body = crate::error::ErrorBody),
    ),
    security(())
)]
#[post("/signin")]
pub(crate) async fn sign_in(
    body: Json<SigninBody>,
    address: Address,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    address.spend(&app, Budget::SignIns)?;
    let SigninBody { username, password } = body.0;
    let password = Password::typed(&password).ok_or(Error::WrongCredentials)?;
    let key = Username::key(&username);
    let found = Found::read(&app, &username, &key, address).await?;
    let attempt = try_password(&app, found.guesser(&key, address.network(), app.trusted_now()))?;
    let holder = attempt.holder(address.network());
    let owner = judged(&app, attempt, check_owner(&app, &found, password, address, holder).await)?;
    let (tenant, rehashed) = owner.ok_or(Error::WrongCredentials)?;
    remember_sign_in(&app, &found, rehashed, address, holder).await;
    Ok(session(StatusCode::OK, Message::SignedIn, locale, &app, tenant))
}

/// The account that belongs to a name in a sign-in, if there is one, with what the check of the password needs.
struct Found {
    user: Option<User>,
    /// See [`user::dearest_hash`].
    dearest_hash: u32,
    /// When the user last signed in from this network.
    seen_at: Option<i64>,
}

impl Found {
    async fn read(app: &App, username: &str, key: &str, address: Address) -> Result<Found> {
        // A text that cannot be a name is looked up under a name that no account can have, so the look-up takes as long.
        let key = if Username::is_spelled(username) { key.to_owned() } else { String::new() };
        let read = move |conn: &mut Conn| {
            Ok(Found {
                user: user::find_by_name(conn, &key)?,
                dearest_hash: user::dearest_hash(conn)?,
                seen_at: known_network::seen_at(conn, &key, address.network())?,
            })
        };
        app.db.read(address.holder(), read).await
    }

    fn guesser<'a>(&self, key: &'a str, network: Network, now: i64) -> Guesser<'a> {
        match self.seen_at {
            Some(seen_at) if seen_at > now - KNOWN_NETWORK => Guesser::KnownNetwork(key, network),
            _ => Guesser::Strangers(key),
        }
    }
}

/// Counts an attempt before the password is checked.
fn try_password(app: &App, guesser: Guesser<'_>) -> Result<Attempt> {
    let attempt = app.budgets.try_password(guesser, app.steady_now());
    attempt.map_err(|wait| Error::FailureLimit { wait, message: Message::PasswordLimit })
}

/// Takes the count back unless the password was wrong, which is `Ok(None)`.
fn judged<T>(app: &App, attempt: Attempt, outcome: Result<Option<T>>) -> Result<Option<T>> {
    match outcome {
        Ok(Some(_)) => app.budgets.was_right(attempt),
        Ok(None) => {}
        Err(_) => app.budgets.was_not_tried(attempt),
    }
    outcome
}

/// The user of that name, if that is the password, with a newer hash of it if there is to be one. Whether there is such a
/// user, only the answer tells.
async fn check_owner<'a>(
    app: &App,
    found: &'a Found,
    password: Password,
    address: Address,
    holder: Holder,
) -> Result<Option<(&'a Tenant, Option<String>)>> {
    let hash = found.user.as_ref().map(|user| user.password_hash.clone());
    let checked = app.hasher.check(holder, password, hash, found.dearest_hash).await?;
    let tenant = found.user.as_ref().map(|user| &user.tenant);
    let owner = tenant.filter(|tenant| checked.matches && !tenant.suspended);
    if owner.is_none() {
        let actor = Actor { who: Who::Anyone, address: address.0 };
        // Without the name as it was typed: people type passwords there.
        app.note_failure(tenant.map(|&Tenant { id, .. }| actor.did("user.signin_failed", id, Some(id), app.now())));
    }
    Ok(owner.map(|tenant| (tenant, checked.rehashed)))
}

/// Remembers the network and stores the newer hash. Where that fails, the password was right all the same, and the next
/// sign-in tries again.
async fn remember_sign_in(
    app: &web::Data<App>,
    found: &Found,
    rehashed: Option<String>,
    address: Address,
    holder: Holder,
) {
    let now = app.trusted_now();
    let is_noted = found.seen_at.is_some_and(|seen_at| seen_at > now - DAY);
    let Some(User { tenant, password_hash, .. }) = found.user.as_ref().filter(|_| !is_noted || rehashed.is_some())
    else {
        return;
    };
    let (id, checked, network) = (tenant.id, password_hash.clone(), address.network());
    let remember = move |conn: &mut Conn| {
        if let Some(rehashed) = rehashed {
            user::set_hash(conn, id, &checked, &rehashed)?;
        }
        Ok(Audited::nothing(known_network::remember(conn, id, network, now)?))
    };
    if let Err(error) = app.add(holder, remember).await {
        log::warn!("a sign-in is not remembered: {}", error.cause().unwrap_or("the database is away"));
    }
}

/// Show the own account.
#[utoipa::path(
    tag = "accounts",
    operation_id = "showAccount",
    responses((status = 200, description = "The account", body = super::Answer<Account>)),
    security(("userToken" = []))
)]
#[get("/me")]
pub(crate) async fn me(token: UserToken, locale: Locale) -> HttpResponse {
    answer(StatusCode::OK, Message::Ok, locale, Account::from(token.user()))
}

/// Change the password. Every earlier token of the user and of the user's domains is revoked; with `endSecretsSince`, client
/// secrets are retired too.
#[utoipa::path(
    tag = "accounts",
    operation_id = "changePassword",
    request_body = PasswordBody,
    responses((status = 200, description = "Changed; sign in again", body = super::Done)),
    security(("userToken" = []))
)]
#[put("/me/password")]
pub(crate) async fn change_password(
    token: UserToken,
    body: Json<PasswordBody>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let holder = token.holder().ends_theft();
    let since = body.0.end_secrets_since;
    if since.is_some_and(|since| !(0..=END_OF_CALENDAR).contains(&since)) {
        return Err(Error::field("endSecretsSince", Message::EndSecretsSince));
    }
    // The new password first: what is refused must not cost a hash.
    let context = [token.user().username.to_string(), token.user().nick.to_string()];
    let new = app.hasher.judge(holder, body.0.new_password, context).await?;
    let new = new.map_err(|problem| Error::field("newPassword", problem))?;
    let (old, attempt) = confirm(&app, &token, &body.0.old_password).await?;
    app.budgets.was_right(attempt);
    let hash = app.hasher.hash(holder, new).await?;
    let (tenant, actor, now) = (token.tenant(), token.actor(), app.now());
    let mut is_set = false;
    while !is_set {
        let (old, hash) = (old.clone(), hash.clone());
        let set = move |conn: &mut Conn| {
            let mut entries = match since {
                Some(since) => secrets::end_some(conn, actor, tenant, since, now)?,
                None => Vec::new(),
            };
            if entries.len() == secrets::ENDED_AT_ONCE {
                // There may be more of them. The password comes last: until then the request can be repeated.
                return Ok(Audited::several(false, entries));
            }
            if !user::set_password(conn, tenant, &old, &hash)? {
                return Err(Error::WrongPassword);
            }
            let changed = actor.did("user.password_changed", tenant, Some(tenant), now);
            entries.push(match since {
                Some(since) => changed.with(json!({ "endSecretsSince": since })),
                None => changed,
            });
            Ok(Audited::several(true, entries))
        };
        is_set = app.change_by(holder, token.standing(), set).await?;
    }
    Ok(done(Message::PasswordChanged, locale))
}

/// Sign out: end this user token, or, with `everywhere`, every token of the user and of the user's domains.
///
/// The domains' clients get new tokens with their secrets. This works also when `LIMIT_CHANGES` is used up. A request without
/// a body ends this token.
#[utoipa::path(
    tag = "accounts",
    operation_id = "signOut",
    request_body = SignoutBody,
    responses((status = 200, description = "Signed out", body = super::Done)),
    security(("userToken" = []))
)]
#[post("/signout")]
pub(crate) async fn sign_out(
    token: UserToken,
    body: OptionalJson<SignoutBody>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let tenant = token.tenant();
    let (id, expires_at) = token.revocable();
    let entry = token.actor().did("user.signed_out", tenant, Some(tenant), app.now());
    let everywhere = body.0.everywhere;
    let end = move |conn: &mut Conn| match everywhere {
        true => Ok(Audited::new(user::end_tokens(conn, tenant)?, entry.with(json!({ "everywhere": true })))),
        false => Ok(Audited::new(revocation::insert(conn, id, expires_at).map(drop)?, entry)),
    };
    app.change_by(token.holder().ends_theft(), token.standing(), end).await?;
    Ok(done(if everywhere { Message::SignedOutEverywhere } else { Message::SignedOut }, locale))
}

/// Delete the own account with its domains and posts. Its tokens are refused at once; its data is removed soon after; its
/// username stays taken.
#[utoipa::path(
    tag = "accounts",
    operation_id = "deleteAccount",
    request_body = ConfirmBody,
    responses((status = 200, description = "Deleted", body = super::Done)),
    security(("userToken" = []))
)]
#[delete("/me")]
pub(crate) async fn delete_account(
    token: UserToken,
    body: Json<ConfirmBody>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    // The attempt stays counted although the password is right: a deletion that fails again and again has a bound too.
    let (checked, _counted) = confirm(&app, &token, &body.0.password).await?;
    let tenant = token.tenant();
    let now = app.now();
    let entry = token.actor().did("user.deleted", tenant, Some(tenant), now);
    let delete = move |conn: &mut Conn| match user::end(conn, tenant, &checked, now)? {
        true => Ok(Audited::new((), entry)),
        false => Err(Error::WrongPassword),
    };
    app.change_by(token.holder().ends_theft(), token.standing(), delete).await?;
    Ok(done(Message::AccountDeleted, locale))
}

/// Checks the owner's present password, and returns the hash that it was checked against, with the attempt, which is still
/// counted. It is counted to the token: others' wrong passwords do not keep the owner from ending a theft, and a thief with a
/// stolen token may try no more passwords than any other caller.
async fn confirm(app: &App, token: &UserToken, password: &str) -> Result<(String, Attempt)> {
    let password = Password::typed(password).ok_or(Error::WrongPassword)?;
    let (token_id, _) = token.revocable();
    let attempt = try_password(app, Guesser::Token(token_id))?;
    match matching_hash(app, token, password).await {
        Ok(hash) => Ok((hash.ok_or(Error::WrongPassword)?, attempt)),
        Err(error) => {
            app.budgets.was_not_tried(attempt);
            Err(error)
        }
    }
}

async fn matching_hash(app: &App, token: &UserToken, password: Password) -> Result<Option<String>> {
    let tenant = token.tenant();
    let holder = token.holder().ends_theft();
    let user = app.db.read(holder, move |conn| Ok(user::find(conn, tenant)?)).await?;
    let hash = user.ok_or(Error::TokenRevoked)?.password_hash;
    // Whose account it is is known, so that the time of a refusal may tell how its password is stored.
    let matches = app.hasher.check(holder, password, Some(hash.clone()), 0).await?.matches;
    if !matches {
        let entry = token.actor().did("user.confirmation_failed", tenant, Some(tenant), app.now());
        app.note_failure(Some(entry));
    }
    Ok(matches.then_some(hash))
}
