//! The gate in front of an API that other people's domains call.
//!
//! A third party signs up, registers a domain and gets a client secret. Its server exchanges the client secret at `/token` for
//! a JWT that lives one minute, and calls your API with the JWT. This crate is the server behind the `gatebird` binary, and
//! the library for actix-web routes that the server protects.
//!
//! # Protect a route
//!
//! A parameter of the handler is the authorization rule. The handler runs only for a token that fits:
//!
//! | parameter | accepts |
//! |---|---|
//! | [`Bearer`] | every token |
//! | [`UserToken`] | a user token only |
//! | [`AccessToken`] | an access token of a domain only |
//! | [`Scoped<S>`](Scoped) | a token with the scope `S`, which a type declares by [`Scope`] |
//!
//! ```
//! use gatebird::Bearer;
//!
//! #[actix_web::get("/orders")]
//! async fn orders(token: Bearer) -> String {
//!     format!("orders of user {}", token.tenant().get())
//! }
//! ```
//!
//! # Serve it
//!
//! [`server::serve`] runs a complete Gatebird with your routes beside its own. This is the usual way: your routes get limits,
//! pre-flights, metrics and one form of errors.
//!
//! [`App::start`] starts the gate alone. With it as application data, the parameters above work in every actix-web application.
//!
//! # Test it
//!
//! [`testing::TestGate`] starts a gate on a temporary database, with users, domains, tokens and a clock that the test moves.
//!
//! # Requirements
//!
//! A Unix system, and Rust 1.95 or newer. SQLite and the PostgreSQL client are built from their sources, which needs a C
//! compiler.

#![warn(clippy::match_bool)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Library;

// Modules that are hidden from the documentation are public for the tests of this package. They are no part of the library and
// change without notice.
//
// # Layers
//
// Imports flow strictly down. `tests/it/layers.rs` reads these lines and checks it.
//
// ```text
// main > cli, testing > server, process > api > gate > actions > app > directory > db > token, password, verification, connections > config
//      > secret, host, name, hashtag, logging > shares > plan, usage, metrics, outbox > id > column, error, exit
//      > reason, locale
// ```

mod actions;
mod api;
#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod cli;
mod column;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod connections;
#[doc(hidden)]
pub mod db;
#[doc(hidden)]
pub mod directory;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod exit;
#[doc(hidden)]
pub mod gate;
#[doc(hidden)]
pub mod hashtag;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod id;
#[doc(hidden)]
pub mod locale;
#[doc(hidden)]
pub mod logging;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod name;
mod outbox;
#[doc(hidden)]
pub mod password;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod reason;
#[doc(hidden)]
pub mod secret;
#[doc(hidden)]
pub mod shares;
#[doc(hidden)]
pub mod token;
#[doc(hidden)]
pub mod usage;
#[doc(hidden)]
pub mod verification;

pub mod server;
pub mod testing;

pub use app::App;
pub use config::Config;
pub use error::Error;
pub use exit::Exit;
pub use gate::bearer::{AccessToken, Bearer, Scope, Scoped, UserToken};
pub use id::{DomainId, UserId};
pub use plan::Plan;
pub use process::run;
pub use token::Claims;
/// Describes a route of your own in `/openapi.json`; see [`server::Operation::describe`].
pub use utoipa;
