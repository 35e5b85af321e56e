//! Rows of `posts` and `post_hashtags`: the tenant's data. Every function takes the tenant, and every query filters by
//! it.

use diesel::prelude::*;

use super::schema::{post_hashtags, posts};
use super::{Conn, Page, columns};
use crate::hashtag::Hashtag;
use crate::id::{PostId, UserId};

/// A stored post.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = posts)]
pub struct Post {
    /// Rises from post to post.
    pub id: PostId,
    /// See [`Content::text`].
    pub content: String,
    /// URL of a picture.
    pub img: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
}

/// The part of a post that its author writes.
pub struct Content {
    /// The text.
    pub text: String,
    /// URL of a picture.
    pub img: Option<String>,
    /// The hashtags in `text`.
    pub hashtags: Vec<Hashtag>,
}

/// Inserts a post with its hashtags.
pub fn insert(conn: &mut Conn, tenant: UserId, content: &Content, now: i64) -> QueryResult<Post> {
    let post: Post = diesel::insert_into(posts::table)
        .values((
            posts::user_id.eq(tenant),
            posts::content.eq(&content.text),
            posts::img.eq(&content.img),
            posts::created_at.eq(now),
            posts::updated_at.eq(now),
        ))
        .returning(columns::<Post>())
        .get_result(conn)?;
    tag(conn, tenant, post.id, &content.hashtags)?;
    Ok(post)
}

/// Returns whether the tenant has at least `count` posts.
pub fn has_as_many(conn: &mut Conn, tenant: UserId, count: i64) -> QueryResult<bool> {
    let last = posts::table.filter(posts::user_id.eq(tenant)).order(posts::id).select(posts::id).offset(count - 1);
    Ok(count == 0 || last.first::<PostId>(conn).optional()?.is_some())
}

/// Replaces the content of one of the tenant's posts, which must exist.
pub fn set_content(conn: &mut Conn, tenant: UserId, id: PostId, content: &Content, now: i64) -> QueryResult<Post> {
    let own = posts::table.filter(posts::id.eq(id).and(posts::user_id.eq(tenant)));
    let post: Post = diesel::update(own)
        .set((posts::content.eq(&content.text), posts::img.eq(&content.img), posts::updated_at.eq(now)))
        .returning(columns::<Post>())
        .get_result(conn)?;
    diesel::delete(post_hashtags::table.filter(post_hashtags::post_id.eq(id))).execute(conn)?;
    tag(conn, tenant, id, &content.hashtags)?;
    Ok(post)
}

/// Returns one of the tenant's posts.
pub fn find(conn: &mut Conn, tenant: UserId, id: PostId) -> QueryResult<Option<Post>> {
    posts::table
        .filter(posts::id.eq(id).and(posts::user_id.eq(tenant)))
        .select(Post::as_select())
        .first(conn)
        .optional()
}

/// Returns one of the tenant's posts and locks it until the transaction ends.
pub fn find_locked(conn: &mut Conn, tenant: UserId, id: PostId) -> QueryResult<Option<Post>> {
    match conn {
        // On SQLite, the transaction holds the only write lock.
        Conn::Sqlite(_) => find(conn, tenant, id),
        Conn::Postgres(conn) => {
            let own = posts::table.filter(posts::id.eq(id).and(posts::user_id.eq(tenant)));
            own.select(Post::as_select()).for_update().first(conn).optional()
        }
    }
}

/// Returns a page of the tenant's posts.
pub fn list(conn: &mut Conn, tenant: UserId, page: Page) -> QueryResult<Vec<Post>> {
    posts::table
        .filter(posts::user_id.eq(tenant).and(posts::id.lt(page.before())))
        .order(posts::id.desc())
        .limit(page.limit)
        .select(Post::as_select())
        .load(conn)
}

/// Returns a page of the tenant's posts with a hashtag.
pub fn list_with_hashtag(conn: &mut Conn, tenant: UserId, hashtag: &Hashtag, page: Page) -> QueryResult<Vec<Post>> {
    post_hashtags::table
        .inner_join(posts::table)
        .filter(post_hashtags::user_id.eq(tenant).and(posts::user_id.eq(tenant)))
        .filter(post_hashtags::title.eq(hashtag.as_str()))
        .filter(post_hashtags::post_id.lt(page.before()))
        .order(post_hashtags::post_id.desc())
        .limit(page.limit)
        .select(Post::as_select())
        .load(conn)
}

/// Deletes one of the tenant's posts.
pub fn delete(conn: &mut Conn, tenant: UserId, id: PostId) -> QueryResult<()> {
    diesel::delete(posts::table.filter(posts::id.eq(id).and(posts::user_id.eq(tenant)))).execute(conn).map(drop)
}

fn tag(conn: &mut Conn, tenant: UserId, post: PostId, hashtags: &[Hashtag]) -> QueryResult<()> {
    for hashtag in hashtags {
        diesel::insert_into(post_hashtags::table)
            .values((
                post_hashtags::user_id.eq(tenant),
                post_hashtags::title.eq(hashtag.as_str()),
                post_hashtags::post_id.eq(post),
            ))
            .execute(conn)?;
    }
    Ok(())
}
