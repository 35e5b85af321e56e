//! Accounts: sign-up, sign-in, sign-out, and changes of the caller's own account.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use crate::actions::accounts as actions;
use crate::directory::Tenant;
use crate::error::Result;
use crate::gate::address::Address;
use crate::gate::bearer::UserToken;
use crate::gate::body::{Json, OptionalJson};
use crate::locale::Message;
use crate::token::present;

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SignupBody {
    /// 3 to 40 letters of one script, digits or `. _ - + @`. It must not resemble an id, such as `usr_7`, or another
    /// name.
    #[schema(pattern = "^(?![Uu][Ss][Rr]_[0-9OoIl]+$)[^\\x00-*,/:-?\\[-\\^`{-\\xBF]{3,40}$")]
    username: String,
    /// 8 to 256 characters, hard to guess.
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    /// 1 to 40 characters. Defaults to the username. Invisible characters are removed, and full-width characters are
    /// replaced by their normal forms.
    #[schema(pattern = "^(?=.*\\S)[^\\x00-\\x1F\\x7F-\\x9F]{1,40}$")]
    nick: Option<String>,
}

/// The credentials of a user.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SigninBody {
    username: String,
    password: String,
}

/// A change of the password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PasswordBody {
    old_password: String,
    /// 8 to 256 characters, hard to guess.
    #[schema(min_length = 8, max_length = 256)]
    new_password: String,
    /// Unix seconds. Client secrets of the user's domains that were created at this time or later are retired at once,
    /// and public keys that were set at this time or later are removed. 0 ends all of them. Use it if a thief may have
    /// created secrets.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, minimum = 0, maximum = 253_402_300_799_i64)]
    end_secrets_since: Option<i64>,
}

/// Options of a sign-out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SignoutBody {
    /// Revoke every token of the user and of the user's domains.
    #[serde(default)]
    everywhere: bool,
}

/// A confirmation by password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    password: String,
}

/// The caller's account.
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
    /// Text for people, in the language of `Accept-Language`.
    message: &'a str,
    /// A user token.
    token: &'a str,
    payload: Account<'a>,
}

fn session(context: &Context, status: StatusCode, message: Message, tenant: &Tenant) -> HttpResponse {
    HttpResponse::build(status).json(Session {
        code: status.as_u16(),
        message: message.text(context.locale),
        token: &context.app.user_token(tenant),
        payload: tenant.into(),
    })
}

/// Create an account.
#[utoipa::path(
    post, path = "", tag = "accounts",
    operation_id = "signUp",
    request_body = SignupBody,
    responses(
        (status = 201, description = "The account and a user token", body = Session),
        (status = 403, description = "Sign-up is closed (`signup_closed`), or the server has the maximum number of accounts (`quota`)", body = crate::error::ErrorBody),
        (status = 409, description = "The username is taken", body = crate::error::ErrorBody),
        (status = 429, description = "Too many sign-ups from the network", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn sign_up(body: Json<SignupBody>, address: Address, context: Context) -> Result<HttpResponse> {
    let SignupBody { username, password, nick } = body.0;
    let tenant = actions::sign_up(&context.app, address.caller(), &username, nick.as_deref(), password).await?;
    Ok(session(&context, StatusCode::CREATED, Message::SignedUp, &tenant))
}

/// Sign in.
#[utoipa::path(
    post, path = "", tag = "accounts",
    operation_id = "signIn",
    request_body = SigninBody,
    responses(
        (status = 200, description = "The account and a user token", body = Session),
        (status = 401, description = "Unknown user or wrong password", body = crate::error::ErrorBody),
        (status = 429, description = "Too many sign-ins from the network, or too many wrong passwords for the name", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn sign_in(body: Json<SigninBody>, address: Address, context: Context) -> Result<HttpResponse> {
    let SigninBody { username, password } = body.0;
    let tenant = actions::sign_in(&context.app, address.caller(), &username, &password).await?;
    Ok(session(&context, StatusCode::OK, Message::SignedIn, &tenant))
}

/// Show the caller's account.
#[utoipa::path(
    get, path = "", tag = "accounts",
    operation_id = "showAccount",
    responses((status = 200, description = "The account", body = super::Answer<Account>)),
)]
pub(crate) async fn me(token: UserToken, context: Context) -> HttpResponse {
    context.answer(StatusCode::OK, Message::Ok, Account::from(token.user()))
}

/// Change the password.
///
/// Earlier tokens of the user and of the user's domains are revoked. With `endSecretsSince`, client secrets are retired
/// too.
#[utoipa::path(
    put, path = "", tag = "accounts",
    operation_id = "changePassword",
    request_body = PasswordBody,
    responses(
        (status = 200, description = "Changed; sign in again", body = super::Done),
        (status = 429, description = "Too many wrong passwords, or over the limit of the domain's plan; `reason` tells which", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn change_password(
    token: UserToken,
    body: Json<PasswordBody>,
    context: Context,
) -> Result<HttpResponse> {
    let PasswordBody { old_password, new_password, end_secrets_since } = body.0;
    actions::change_password(&context.app, token.signed_in(), &old_password, new_password, end_secrets_since).await?;
    Ok(context.done(Message::PasswordChanged))
}

/// Sign out.
///
/// Revokes this user token or, with `everywhere`, every token of the user and of the user's domains. Clients can
/// request new tokens with their secrets. A request without a body revokes this token only. `LIMIT_CHANGES` does not
/// apply.
#[utoipa::path(
    post, path = "", tag = "accounts",
    operation_id = "signOut",
    request_body = SignoutBody,
    responses((status = 200, description = "Signed out", body = super::Done)),
)]
pub(crate) async fn sign_out(
    token: UserToken,
    body: OptionalJson<SignoutBody>,
    context: Context,
) -> Result<HttpResponse> {
    let everywhere = body.0.everywhere;
    actions::sign_out(&context.app, token.signed_in(), everywhere).await?;
    Ok(context.done(if everywhere { Message::SignedOutEverywhere } else { Message::SignedOut }))
}

/// Delete the caller's account with its domains and posts.
///
/// Its tokens are refused at once. Its data is deleted soon after. Its username stays reserved.
#[utoipa::path(
    delete, path = "", tag = "accounts",
    operation_id = "deleteAccount",
    request_body = ConfirmBody,
    responses(
        (status = 200, description = "Deleted", body = super::Done),
        (status = 429, description = "Too many wrong passwords, or over the limit of the domain's plan; `reason` tells which", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn delete_account(
    token: UserToken,
    body: Json<ConfirmBody>,
    context: Context,
) -> Result<HttpResponse> {
    actions::delete(&context.app, token.signed_in(), &body.0.password).await?;
    Ok(context.done(Message::AccountDeleted))
}
