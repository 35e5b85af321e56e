//! Rows of `secret_uses`: when and from where a client secret was last used, and when it was first sent by a browser.

use diesel::prelude::*;

use super::Conn;
use super::schema::{secret_uses, secrets};
use crate::id::SecretId;

/// Records that a browser sent a secret. Returns `false` if the secret is gone, or if this was recorded before.
pub fn set_leaked(conn: &mut Conn, secret: SecretId, at: i64) -> QueryResult<bool> {
    let known = secrets::table.find(secret).count().get_result::<i64>(conn)? > 0;
    if !known {
        return Ok(false);
    }
    let row = secret_uses::table.find(secret);
    let flagged = diesel::update(row.filter(secret_uses::leaked_at.is_null()))
        .set(secret_uses::leaked_at.eq(at))
        .execute(conn)?;
    if flagged > 0 || row.count().get_result::<i64>(conn)? > 0 {
        return Ok(flagged > 0);
    }
    diesel::insert_into(secret_uses::table)
        .values((secret_uses::secret_id.eq(secret), secret_uses::used_at.eq(at), secret_uses::leaked_at.eq(at)))
        .execute(conn)
        .map(|_| true)
}
