//! One of the caller's own domains, as the paths below `/v1/domains/{id}` name it.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;

use super::not_found;
use crate::app::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::domain::{self, Domain};
use crate::db::dormancy;
use crate::error::{Error, Result};
use crate::gate::bearer::UserToken;
use crate::id::{DomainId, UserId};
use crate::shares::Holder;

/// Proof of a person, and the domain that the path names. Whether it is that person's, only the row tells, which
/// [`OwnDomain::read`] and [`OwnDomain::change`] find or answer 404, as for one that is no id at all.
pub(crate) struct OwnDomain {
    token: UserToken,
    id: DomainId,
}

/// The part of the path that names it; there may be others.
#[derive(Deserialize)]
struct Named {
    id: String,
}

impl OwnDomain {
    /// Who calls, and from where.
    pub(super) fn actor(&self) -> Actor {
        self.token.actor()
    }

    /// The caller.
    pub(super) fn tenant(&self) -> UserId {
        self.token.tenant()
    }

    /// The holder of the caller's shares.
    pub(super) fn holder(&self) -> Holder {
        self.token.holder()
    }

    /// What is to be told of a change of it by its owner.
    pub(super) fn did(&self, action: &'static str, at: i64) -> Entry {
        self.actor().did(action, self.id, Some(self.tenant()), at)
    }

    /// Reads it, and what `work` wants with it.
    ///
    /// # Errors
    /// When it is not the caller's; what `work` returns; as [`crate::db::Db::read`].
    pub(super) async fn read<T: Send + 'static>(
        &self,
        app: &App,
        work: impl FnOnce(&mut Conn, Domain) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        app.db.read(self.holder(), self.found(work)).await
    }

    /// Changes it. `work` gets it as it is, and as it stays until the change is done: every change of a domain holds the lock
    /// on the revision.
    ///
    /// # Errors
    /// As [`OwnDomain::read`], and when the token was revoked meanwhile.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        app: &web::Data<App>,
        work: impl FnOnce(&mut Conn, Domain) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        app.change_by(self.holder().ends_theft(), self.token.standing(), self.found(awake(work))).await
    }

    /// [`OwnDomain::change`] that takes nothing away from anybody, or not soon; see [`App::add`].
    ///
    /// # Errors
    /// As [`OwnDomain::change`].
    pub(super) async fn add<T: Send + 'static>(
        &self,
        app: &web::Data<App>,
        work: impl FnOnce(&mut Conn, Domain) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        app.add_by(self.holder(), self.token.standing(), self.found(awake(work))).await
    }

    /// The work with the row that is found for it.
    fn found<T, W: FnOnce(&mut Conn, Domain) -> Result<T>>(
        &self,
        work: W,
    ) -> impl FnOnce(&mut Conn) -> Result<T> + use<T, W> {
        let (tenant, id) = (self.tenant(), self.id);
        move |conn| {
            let domain = domain::find(conn, tenant, id)?.ok_or_else(not_found)?;
            work(conn, domain)
        }
    }
}

/// The work, for which the domain is woken. It gets the row as it was before, which its caller may have seen.
fn awake<T>(work: impl FnOnce(&mut Conn, Domain) -> Result<T>) -> impl FnOnce(&mut Conn, Domain) -> Result<T> {
    |conn, domain| {
        dormancy::wake(conn, domain.id)?;
        work(conn, domain)
    }
}

impl FromRequest for OwnDomain {
    type Error = Error;
    type Future = Ready<Result<OwnDomain>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let token = UserToken::from_request(req, payload).into_inner();
        let named = web::Path::<Named>::from_request(req, payload).into_inner();
        let id = named.ok().and_then(|named| DomainId::parse(&named.id));
        ready(token.and_then(|token| Ok(OwnDomain { token, id: id.ok_or_else(not_found)? })))
    }
}
