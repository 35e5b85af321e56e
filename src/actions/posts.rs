//! Posts: data of a user, and the model for further resources.
//!
//! A resource has three files of its own: its rows in `db`, its rules in `actions`, and its routes with its scopes in `api`.
//! Elsewhere it adds entries to lists: the modules, the tables (`db/schema.rs`), the tables of a user (`db/removal.rs`), the
//! routes (`server.rs`), the texts (`locale.rs`), and the default of `SCOPES` (`config/mod.rs`).

use std::sync::Arc;

use url::Url;

use super::not_found;
use crate::app::{App, InForce, TokenCaller};
use crate::db::Conn;
use crate::db::audit::Audited;
use crate::db::post::{self, Content, Post};
use crate::error::{Error, Result};
use crate::hashtag::hashtags;
use crate::id::PostId;
use crate::locale::Message;

/// Parses the content of a post.
pub(crate) fn content(text: String, img: Option<String>) -> Result<Content> {
    let is_allowed = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    if !(1..=140).contains(&text.chars().count()) || !text.chars().all(is_allowed) {
        return Err(Error::field("content", Message::Content));
    }
    if !img.as_deref().is_none_or(is_img) {
        return Err(Error::field("img", Message::Img));
    }
    Ok(Content { hashtags: hashtags(&text), text, img })
}

fn is_img(text: &str) -> bool {
    text.chars().count() <= 200
        && !text.chars().any(|character| character.is_control() || character.is_whitespace())
        // `Url::parse` accepts a missing slash.
        && text.contains("://")
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Creates a post.
///
/// # Errors
/// `Quota` when the user has `POSTS_PER_USER` posts; as [`App::write`].
pub(crate) async fn create(app: &Arc<App>, caller: TokenCaller, content: Content) -> Result<Post> {
    let (now, max) = (app.now(), app.config.posts_per_user);
    let create = move |conn: &mut Conn| {
        // On PostgreSQL, concurrent inserts do not see each other: the quota can be exceeded by one post per
        // connection.
        if let Some(max) = max
            && post::has_as_many(conn, caller.user(), max)?
        {
            return Err(Error::Quota(Message::PostQuota));
        }
        let post = post::insert(conn, caller.user(), &content, now)?;
        let entry = caller.event("post.created", post.id.get(), now);
        Ok(Audited::new(post, entry))
    };
    app.write(caller, InForce::AtCommit, create).await
}

/// Replaces the content of a post, if `check` accepts the post as it is.
///
/// # Errors
/// `NotFound` when the post is not the user's; what `check` returns; as [`App::write`].
pub(crate) async fn change(
    app: &Arc<App>,
    caller: TokenCaller,
    id: PostId,
    content: Content,
    check: impl FnOnce(Post) -> Result<()> + Send + 'static,
) -> Result<Post> {
    let now = app.now();
    let change = move |conn: &mut Conn| {
        check(find_locked(conn, caller, id)?)?;
        let post = post::set_content(conn, caller.user(), id, &content, now)?;
        Ok(Audited::new(post, caller.event("post.changed", id.get(), now)))
    };
    app.write(caller, InForce::AtCommit, change).await
}

/// Deletes a post, if `check` accepts the post as it is.
///
/// # Errors
/// As [`change`].
pub(crate) async fn delete(
    app: &Arc<App>,
    caller: TokenCaller,
    id: PostId,
    check: impl FnOnce(Post) -> Result<()> + Send + 'static,
) -> Result<()> {
    let entry = caller.event("post.deleted", id.get(), app.now());
    let delete = move |conn: &mut Conn| {
        check(find_locked(conn, caller, id)?)?;
        post::delete(conn, caller.user(), id)?;
        Ok(Audited::new((), entry))
    };
    app.write(caller, InForce::AtCommit, delete).await
}

fn find_locked(conn: &mut Conn, caller: TokenCaller, id: PostId) -> Result<Post> {
    post::find_locked(conn, caller.user(), id)?.ok_or_else(not_found)
}
