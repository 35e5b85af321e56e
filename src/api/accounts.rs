//! Accounts: sign up, sign in, and what a user does with the own account.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{answer, done, taken};
use crate::app::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Who};
use crate::db::user::{self, NewUser};
use crate::directory::Tenant;
use crate::error::{Error, Result};
use crate::gate::address::Address;
use crate::gate::bearer::UserToken;
use crate::gate::body::Json;
use crate::id::UserId;
use crate::locale::{Locale, Message};
use crate::password::Password;
use crate::shares::{Attempt, Budget, Holder};

/// A user's name: 3 to 40 ASCII letters, digits or `. _ - + @`, and nobody's public id. Unique without regard to case.
pub(crate) struct Username(String);

impl Username {
    pub(crate) fn parse(text: &str) -> std::result::Result<Username, Message> {
        if !Username::is_spelled(text) {
            return Err(Message::Username);
        }
        match UserId::is_like(text) {
            // Tokens show it in place of an e-mail address, and servers may know people by it.
            true => Err(Message::UsernameIsId),
            false => Ok(Username(text.to_owned())),
        }
    }

    fn is_spelled(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
        (3..=40).contains(&text.len()) && text.bytes().all(allowed)
    }

    /// The form under which it is unique.
    pub(crate) fn key(text: &str) -> String {
        text.to_ascii_lowercase()
    }
}

/// How a user wants to be called: 1 to 40 characters of any script.
pub(crate) struct Nick(String);

impl Nick {
    pub(crate) fn parse(text: &str) -> std::result::Result<Nick, Message> {
        let good =
            (1..=40).contains(&text.chars().count()) && !text.trim().is_empty() && !text.chars().any(char::is_control);
        good.then(|| Nick(text.to_owned())).ok_or(Message::Nick)
    }

    /// What a nick can be made of in a text of another system; `None` if there is nothing in it.
    pub(crate) fn cleaned(text: &str) -> Option<String> {
        let shown: String = text.chars().filter(|character| !character.is_control()).take(40).collect();
        Nick::parse(shown.trim()).ok().map(|nick| nick.0)
    }
}

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
        [self.username.0.clone(), self.nick.0.clone()]
    }

    /// The row to insert.
    pub(crate) fn with_hash(self, password_hash: String, now: i64) -> NewUser {
        NewUser {
            username_key: Username::key(&self.username.0),
            username: self.username.0,
            nick: self.nick.0,
            password_hash,
            created_at: now,
        }
    }
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignupBody {
    /// 3 to 40 letters, digits or `. _ - + @`; nothing like `usr_7`.
    #[schema(pattern = "^(?![Uu][Ss][Rr]_[0-9]+$)[A-Za-z0-9._+@-]{3,40}$")]
    username: String,
    /// 8 to 256 characters, hard to guess.
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    /// 1 to 40 characters; the username if absent.
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
        let actor = Actor { who: Who::Anyone, address: address.0 };
        let entry = actor.did("user.signed_up", tenant.id, Some(tenant.id), user.created_at);
        Ok(Audited::new(tenant, entry))
    };
    let tenant = app.add(address.holder(), insert).await?;
    app.budgets.was_made(&Username::key(&tenant.username), address.network(), app.steady_now());
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
    let attempt = try_password(&app, &username, address)?;
    let found = find_owner(&app, &username, password, address, attempt.holder()).await;
    let tenant = judged(&app, attempt, found)?;
    Ok(session(StatusCode::OK, Message::SignedIn, locale, &app, &tenant.ok_or(Error::WrongCredentials)?))
}

/// Counts a password that is about to be tried: before any work is done on it, and before anybody looks whether there is
/// such an account.
fn try_password(app: &App, username: &str, address: Address) -> Result<Attempt> {
    let attempt = app.budgets.try_password(&Username::key(username), address.network(), app.steady_now());
    attempt.map_err(|wait| Error::FailureLimit { wait, message: Message::PasswordLimit })
}

/// Takes the count back unless the password was wrong, which is `Ok(None)`.
fn judged<T>(app: &App, attempt: Attempt, outcome: Result<Option<T>>) -> Result<Option<T>> {
    match outcome {
        Ok(Some(_)) => app.budgets.was_right(attempt, app.steady_now()),
        Ok(None) => {}
        Err(_) => app.budgets.was_not_tried(attempt),
    }
    outcome
}

/// The user of that name, if that is the password; whether there is such a user, only the answer tells.
async fn find_owner(
    app: &web::Data<App>,
    username: &str,
    password: Password,
    address: Address,
    holder: Holder,
) -> Result<Option<Tenant>> {
    // Whatever cannot be a name is looked for under one that nobody can have, and takes as long.
    let key = if Username::is_spelled(username) { Username::key(username) } else { String::new() };
    let found = app.db.read(holder, move |conn| Ok(user::find_by_name(conn, &key)?)).await?;
    let (tenant, hash) = found.map(|user| (user.tenant, user.password_hash)).unzip();
    let checked = app.hasher.check(holder, password, hash.clone()).await?;
    let Some(tenant) = tenant.as_ref().filter(|tenant| checked.matches && !tenant.suspended) else {
        let actor = Actor { who: Who::Anyone, address: address.0 };
        // Without the name as it was typed: people type passwords there.
        app.note_failure(tenant.map(|Tenant { id, .. }| actor.did("user.signin_failed", id, Some(id), app.now())));
        return Ok(None);
    };
    if let (Some(old), Some(new)) = (hash, checked.rehashed) {
        let id = tenant.id;
        let rehashed = app.add(holder, move |conn| Ok(Audited::nothing(user::set_hash(conn, id, &old, &new)?))).await;
        // The password was right all the same, and the next sign-in tries again.
        if let Err(error) = rehashed {
            log::warn!("a hash stays as old as it is: {}", error.cause().unwrap_or("the database is away"));
        }
    }
    Ok(Some(tenant.clone()))
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

/// Change the password. Every earlier token of the user and of the user's domains is revoked.
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
    // The new password first: what is refused must not cost a hash.
    let context = [token.user().username.to_string(), token.user().nick.to_string()];
    let new = app.hasher.judge(holder, body.0.new_password, context).await?;
    let new = new.map_err(|problem| Error::field("newPassword", problem))?;
    let (old, attempt) = confirm(&app, &token, &body.0.old_password).await?;
    app.budgets.was_right(attempt, app.steady_now());
    let hash = app.hasher.hash(holder, new).await?;
    let tenant = token.tenant();
    let entry = token.actor().did("user.password_changed", tenant, Some(tenant), app.now());
    let set = move |conn: &mut Conn| match user::set_password(conn, tenant, &old, &hash)? {
        true => Ok(Audited::new((), entry)),
        false => Err(Error::WrongPassword),
    };
    app.change_by(holder, token.standing(), set).await?;
    Ok(done(Message::PasswordChanged, locale))
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
/// counted. A thief with a stolen token may try no more passwords than any other caller.
async fn confirm(app: &App, token: &UserToken, password: &str) -> Result<(String, Attempt)> {
    let password = Password::typed(password).ok_or(Error::WrongPassword)?;
    let attempt = try_password(app, &token.user().username, token.address())?;
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
    let matches = app.hasher.check(holder, password, Some(hash.clone())).await?.matches;
    if !matches {
        let entry = token.actor().did("user.confirmation_failed", tenant, Some(tenant), app.now());
        app.note_failure(Some(entry));
    }
    Ok(matches.then_some(hash))
}
