//! Posts: data of a tenant, and the model for further resources.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::etag::{IfMatch, with_etag};
use super::page::{PageQuery, PageRequest};
use super::{list, message_response};
use crate::actions::{not_found, owner_deleted};
use crate::app::{App, InForce};
use crate::db::Conn;
use crate::db::audit::Audited;
use crate::db::post::{self, Content, Post};
use crate::error::{Error, Result};
use crate::gate::bearer::{PostsRead, PostsWrite, Scoped};
use crate::gate::body::{Json, MAX_POST_BYTES};
use crate::hashtag::{Hashtag, hashtags};
use crate::id::{PostId, UserId};
use crate::locale::{Locale, Message};

/// The content of a post.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PostBody {
    /// 1 to 140 characters. `#word` is a hashtag.
    #[schema(pattern = "^[^\\x00-\\x08\\x0B\\x0C\\x0E-\\x1F\\x7F-\\x9F]{1,140}$")]
    content: String,
    /// An http or https URL of at most 200 characters.
    #[schema(max_length = 200, pattern = "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s\\x00-\\x1F\\x7F-\\x9F]+$")]
    img: Option<String>,
}

impl PostBody {
    fn parse(self) -> Result<Content> {
        let writable = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
        if !(1..=140).contains(&self.content.chars().count()) || !self.content.chars().all(writable) {
            return Err(Error::field("content", Message::Content));
        }
        if !self.img.as_deref().is_none_or(is_img) {
            return Err(Error::field("img", Message::Img));
        }
        Ok(Content { hashtags: hashtags(&self.content), text: self.content, img: self.img })
    }
}

fn is_img(text: &str) -> bool {
    text.chars().count() <= 200
        && !text.chars().any(|character| character.is_control() || character.is_whitespace())
        // `Url::parse` accepts a missing slash.
        && text.contains("://")
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A post.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PostView {
    id: i64,
    content: String,
    #[schema(required = true)]
    img: Option<String>,
    /// The hashtags of the content, normalized as for a search.
    hashtags: Vec<String>,
    /// Unix seconds.
    created_at: i64,
    /// Unix seconds.
    updated_at: i64,
}

impl From<Post> for PostView {
    fn from(post: Post) -> PostView {
        PostView {
            id: post.id.get(),
            hashtags: hashtags(&post.content).iter().map(|hashtag| hashtag.as_str().to_owned()).collect(),
            content: post.content,
            img: post.img,
            created_at: post.created_at,
            updated_at: post.updated_at,
        }
    }
}

fn page(posts: Vec<Post>, part: PageRequest, locale: Locale) -> HttpResponse {
    let (posts, next_cursor) = part.cut(posts, |post| post.id.get());
    list(posts.into_iter().map(PostView::from).collect(), next_cursor, locale)
}

/// List the caller's posts, newest first.
#[utoipa::path(
    get, path = "", tag = "posts",
    operation_id = "listPosts",
    params(PageQuery),
    responses((status = 200, description = "The posts", body = super::List<PostView>)),
)]
pub(crate) async fn mine(
    token: Scoped<PostsRead>,
    req: actix_web::HttpRequest,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let part = PageRequest::parse(req.query_string())?;
    let tenant = token.tenant();
    let posts = app.db.read(token.holder(), move |conn| Ok(post::list(conn, tenant, part.page())?)).await?;
    Ok(page(posts, part, locale))
}

/// List the caller's posts with a hashtag, newest first.
#[utoipa::path(
    get, path = "", tag = "posts",
    operation_id = "listPostsByHashtag",
    params(("title" = String, Path, description = "The hashtag, without regard to case"), PageQuery),
    responses((status = 200, description = "The posts", body = super::List<PostView>)),
)]
pub(crate) async fn by_hashtag(
    token: Scoped<PostsRead>,
    title: web::Path<String>,
    req: actix_web::HttpRequest,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let part = PageRequest::parse(req.query_string())?;
    let no_results = || Error::NotFound(Message::NoResults);
    let (tenant, hashtag) = (token.tenant(), Hashtag::parse(&title).ok_or_else(no_results)?);
    let read = move |conn: &mut Conn| Ok(post::list_with_hashtag(conn, tenant, &hashtag, part.page())?);
    let posts = app.db.read(token.holder(), read).await?;
    // A later page may be empty, because posts were deleted since the previous one.
    if posts.is_empty() && part.is_first() { Err(no_results()) } else { Ok(page(posts, part, locale)) }
}

/// Create a post.
#[utoipa::path(
    post, path = "", tag = "posts",
    operation_id = "createPost",
    request_body = PostBody,
    responses(
        (status = 201, description = "The post", body = super::Answer<PostView>),
        (status = 403, description = "The user has the maximum number of posts (`quota`); or the token lacks the scope", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn create(
    token: Scoped<PostsWrite>,
    body: Json<PostBody, MAX_POST_BYTES>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let content = body.0.parse()?;
    let (tenant, now, most) = (token.tenant(), app.now(), app.config.posts_per_user);
    let caller = token.caller();
    let insert = move |conn: &mut Conn| {
        // On PostgreSQL, concurrent inserts do not see each other: the quota can be exceeded by one post per
        // connection.
        if let Some(most) = most
            && post::has_as_many(conn, tenant, most)?
        {
            return Err(Error::Quota(Message::PostQuota));
        }
        let post = post::insert(conn, tenant, &content, now).map_err(owner_deleted)?;
        let entry = caller.actor.event("post.created", post.id.get(), Some(tenant), now);
        Ok(Audited::new(post, entry))
    };
    let view: PostView = app.write(caller, InForce::AtCommit, insert).await?.into();
    Ok(with_etag(StatusCode::CREATED, Message::PostCreated, locale, view))
}

/// Show a post.
#[utoipa::path(
    get, path = "", tag = "posts",
    operation_id = "showPost",
    params(("id" = inline(PostId), Path, description = "The post's number")),
    responses((status = 200, description = "The post", body = super::Answer<PostView>)),
)]
pub(crate) async fn show(
    token: Scoped<PostsRead>,
    id: web::Path<String>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), PostId::parse(&id).ok_or_else(not_found)?);
    let found = app.db.read(token.holder(), move |conn| Ok(post::find(conn, tenant, id)?)).await?;
    let view: PostView = found.ok_or_else(not_found)?.into();
    Ok(with_etag(StatusCode::OK, Message::Ok, locale, view))
}

/// Replace the content of a post.
#[utoipa::path(
    put, path = "", tag = "posts",
    operation_id = "changePost",
    params(("id" = inline(PostId), Path, description = "The post's number"), IfMatch),
    request_body = PostBody,
    responses((status = 200, description = "The changed post", body = super::Answer<PostView>)),
)]
pub(crate) async fn change(
    token: Scoped<PostsWrite>,
    id: web::Path<String>,
    body: Json<PostBody, MAX_POST_BYTES>,
    if_match: IfMatch,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), PostId::parse(&id).ok_or_else(not_found)?);
    let (content, now) = (body.0.parse()?, app.now());
    let caller = token.caller();
    let set = move |conn: &mut Conn| {
        check_precondition(conn, tenant, id, &if_match)?;
        let post = post::set_content(conn, tenant, id, &content, now).map_err(owner_deleted)?.ok_or_else(not_found)?;
        Ok(Audited::new(post, caller.actor.event("post.changed", id.get(), Some(tenant), now)))
    };
    let view: PostView = app.write(caller, InForce::AtCommit, set).await?.into();
    Ok(with_etag(StatusCode::OK, Message::PostChanged, locale, view))
}

/// Checks `If-Match` against the post.
fn check_precondition(conn: &mut Conn, tenant: UserId, id: PostId, if_match: &IfMatch) -> Result<()> {
    if if_match.is_present() {
        if_match.check(&PostView::from(post::find_locked(conn, tenant, id)?.ok_or_else(not_found)?))
    } else {
        Ok(())
    }
}

/// Delete a post.
#[utoipa::path(
    delete, path = "", tag = "posts",
    operation_id = "deletePost",
    params(("id" = inline(PostId), Path, description = "The post's number"), IfMatch),
    responses((status = 200, description = "Deleted", body = super::Done)),
)]
pub(crate) async fn remove(
    token: Scoped<PostsWrite>,
    id: web::Path<String>,
    if_match: IfMatch,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), PostId::parse(&id).ok_or_else(not_found)?);
    let (now, caller) = (app.now(), token.caller());
    let delete = move |conn: &mut Conn| {
        check_precondition(conn, tenant, id, &if_match)?;
        if post::delete(conn, tenant, id)? {
            Ok(Audited::new((), caller.actor.event("post.deleted", id.get(), Some(tenant), now)))
        } else {
            Err(not_found())
        }
    };
    app.write(caller, InForce::AtCommit, delete).await?;
    Ok(message_response(Message::PostDeleted, locale))
}
