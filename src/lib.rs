//! Gatebird: the gate before an API that other people's domains call.
//!
//! A third party signs up, registers a domain, gets a client secret, exchanges it at `/token` for a short-lived JWT,
//! and calls the API; the API knows whose data to show. To protect a route of your own, see [`gate::bearer`].
//!
//! **Extractors turn a request into proof, handlers turn proof into data, [`db`] is the only SQL, and the two hot calls
//! (issue a token, verify a token) never leave memory.** Two shelves have matching spines: `db/domain.rs` is a row,
//! `api/domains.rs` is a URL. Between them, `actions` has the rules: what a caller can do, without HTTP.
//!
//! # Two walks
//!
//! **`POST /token`**: [`server`] has the route; the parameter [`gate::client::Client`] takes one request from the
//! network's budget ([`shares`]), reads the secret out of Basic, form or JSON, checks its checksum, finds the domain by the
//! secret's digest in the [`directory`] and takes one request from its [`plan::Meter`]; `api::token::issue` grants scope and
//! audience, signs with the key of the hour ([`token::keyring`]) and answers. No SQL, no lock held across an await, no other
//! thread. Tokens are counted, not written down.
//!
//! **`GET /v1/posts/my`**: the parameter `Scoped<PostsRead>` is a [`gate::bearer::Bearer`]: header, size, signature
//! and claims ([`token::verify`], which remembers), then audience, then owner, generation and revocation in the directory,
//! then `exp`, then the limit.
//! `api::posts::mine` passes its [`id::UserId`] to [`db::Db::read`] and [`db::post::list`]. A handler's parameter list
//! is its authorization rule; a tenant's rows can be reached only with the `UserId` that a proof carries.
//!
//! # Freshness
//!
//! The directory's tables (users, domains, secrets, signing keys, revocations, used assertions) have a revision that triggers
//! set from a one-row counter; the counter's row stays locked until the commit, so commit order is revision order. A node
//! reads what is newer than it has seen twice a second; the node that wrote applies the difference before it answers. Used
//! assertions are written behind the request ([`token::replay`]). Without the database, known clients still get tokens and
//! tokens still verify.
//!
//! # Layers
//!
//! Imports flow strictly down; a test reads them:
//!
//! ```text
//! main > cli, testing > server, process > api > gate > actions > app > directory > db > token, password, verification, connections > config
//!      > secret, host, name, hashtag, logging > shares > plan, usage, metrics, outbox > id > column, error, exit
//!      > reason, locale
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Library;

mod actions;
pub mod app;
pub mod cli;
mod column;
pub mod config;
pub mod connections;
pub mod db;
pub mod directory;
pub mod error;
pub mod exit;
pub mod gate;
pub mod hashtag;
pub mod host;
pub mod id;
pub mod locale;
pub mod logging;
pub mod metrics;
pub mod name;
mod outbox;
pub mod password;
pub mod plan;
pub mod process;
pub mod reason;
pub mod secret;
pub mod server;
pub mod shares;
pub mod testing;
pub mod token;
pub mod usage;
pub mod verification;

mod api;

pub use app::App;
pub use config::Config;
pub use error::Error;
pub use gate::bearer::{AccessToken, Bearer, Scope, Scoped, UserToken};
pub use id::UserId;
/// For the description of an own route; see [`server::Operation::describe`].
pub use utoipa;
