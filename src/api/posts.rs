//! Posts: data of a tenant, and the model for further resources.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::etag::IfMatch;
use super::page::{PageQuery, PageRequest};
use crate::actions::{not_found, posts};
use crate::db::Conn;
use crate::db::post::{self, Post};
use crate::error::{Error, Result};
use crate::gate::bearer::{Scope, Scoped};
use crate::gate::body::Json;
use crate::hashtag::{Hashtag, hashtags};
use crate::id::PostId;
use crate::locale::Message;

/// The scope `posts:read`.
pub(crate) struct PostsRead;

impl Scope for PostsRead {
    const NAME: &'static str = "posts:read";
}

/// The scope `posts:write`.
pub(crate) struct PostsWrite;

impl Scope for PostsWrite {
    const NAME: &'static str = "posts:write";
}

/// The largest body of a post, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

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

fn page(context: &Context, posts: Vec<Post>, request: PageRequest) -> HttpResponse {
    let (posts, next_cursor) = request.cut(posts, |post| post.id.get());
    context.page(posts.into_iter().map(PostView::from), next_cursor)
}

/// List the caller's posts, newest first.
#[utoipa::path(
    get, path = "", tag = "posts",
    operation_id = "listPosts",
    params(PageQuery),
    responses((status = 200, description = "The posts", body = super::List<PostView>)),
)]
pub(crate) async fn mine(token: Scoped<PostsRead>, request: PageRequest, context: Context) -> Result<HttpResponse> {
    let posts = context.app.read(token.caller(), move |conn, user| post::list(conn, user, request.page())).await?;
    Ok(page(&context, posts, request))
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
    request: PageRequest,
    context: Context,
) -> Result<HttpResponse> {
    let no_results = || Error::NotFound(Message::NoResults);
    let hashtag = Hashtag::parse(&title).ok_or_else(no_results)?;
    let list = move |conn: &mut Conn, user| post::list_with_hashtag(conn, user, &hashtag, request.page());
    let posts = context.app.read(token.caller(), list).await?;
    // A later page may be empty, because posts were deleted since the previous one.
    if posts.is_empty() && request.is_first() { Err(no_results()) } else { Ok(page(&context, posts, request)) }
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
    body: Json<PostBody, MAX_BODY_BYTES>,
    context: Context,
) -> Result<HttpResponse> {
    let content = posts::content(body.0.content, body.0.img)?;
    let view: PostView = posts::create(&context.app, token.caller(), content).await?.into();
    Ok(context.with_etag(StatusCode::CREATED, Message::PostCreated, view))
}

/// Show a post.
#[utoipa::path(
    get, path = "", tag = "posts",
    operation_id = "showPost",
    params(("id" = inline(PostId), Path, description = "The post's number")),
    responses((status = 200, description = "The post", body = super::Answer<PostView>)),
)]
pub(crate) async fn show(token: Scoped<PostsRead>, id: web::Path<String>, context: Context) -> Result<HttpResponse> {
    let id = parse_id(&id)?;
    let found = context.app.read(token.caller(), move |conn, user| post::find(conn, user, id)).await?;
    let view: PostView = found.ok_or_else(not_found)?.into();
    Ok(context.with_etag(StatusCode::OK, Message::Ok, view))
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
    body: Json<PostBody, MAX_BODY_BYTES>,
    if_match: IfMatch,
    context: Context,
) -> Result<HttpResponse> {
    let (id, content) = (parse_id(&id)?, posts::content(body.0.content, body.0.img)?);
    let check = move |post: Post| if_match.check(&PostView::from(post));
    let view: PostView = posts::change(&context.app, token.caller(), id, content, check).await?.into();
    Ok(context.with_etag(StatusCode::OK, Message::PostChanged, view))
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
    context: Context,
) -> Result<HttpResponse> {
    let check = move |post: Post| if_match.check(&PostView::from(post));
    posts::delete(&context.app, token.caller(), parse_id(&id)?, check).await?;
    Ok(context.done(Message::PostDeleted))
}

fn parse_id(text: &str) -> Result<PostId> {
    PostId::parse(text).ok_or_else(not_found)
}
