//! A Gatebird with a route that demands a scope of its own.
//!
//! `SCOPES` must list the scope, so that clients can ask for it:
//!
//! ```sh
//! SCOPES="orders:read orders:write" cargo run --example own_scope
//! ```
//!
//! A client without a `scope` in its token request gets all scopes that its domain may have.

use std::process::ExitCode;

use actix_web::http::Method;
use gatebird::server::{Credentials, serve};
use gatebird::{Config, Scope, Scoped};

/// A scope is a type, so that a handler can name it as a parameter.
struct OrdersRead;

impl Scope for OrdersRead {
    const NAME: &'static str = "orders:read";
}

/// Runs only for a token with the scope. Otherwise Gatebird has answered 403, or 401 without a valid token.
async fn orders(token: Scoped<OrdersRead>) -> String {
    format!("orders of user {}", token.tenant().get())
}

fn main() -> ExitCode {
    gatebird::run(|| {
        serve(Config::read()?, |routes| {
            // The credentials are for `/openapi.json` and for pre-flights. The parameter checks the scope.
            routes.add(Method::GET, "/orders", orders, Credentials::Scoped(OrdersRead::NAME));
        })
    })
}
