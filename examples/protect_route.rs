//! A Gatebird with one route more than its own: `GET /orders`, for every valid token.
//!
//! Run it with `cargo run --example protect_route`. It is a complete server: it prints the commands that get a token.
//! Then call it:
//!
//! ```sh
//! curl http://localhost:8002/orders -H "Authorization: Bearer $TOKEN"
//! ```

use std::process::ExitCode;

use actix_web::http::Method;
use gatebird::server::{Credentials, serve};
use gatebird::{Bearer, Config, utoipa};

/// Runs only for a valid token. Otherwise Gatebird has answered 401, or 419 for an expired token.
///
/// `tenant` is the user to whom the data belongs: query the rows of this user only.
#[utoipa::path(get, path = "", responses((status = 200, description = "Your orders")))]
async fn orders(token: Bearer) -> String {
    format!("orders of user {}", token.tenant().get())
}

/// Optional: describes the handler in `/openapi.json`.
#[derive(utoipa::OpenApi)]
#[openapi(paths(orders))]
struct Description;

fn main() -> ExitCode {
    gatebird::run(|| {
        // Settings come from the environment and from `.env`, as for the `gatebird` binary.
        serve(Config::read()?, |routes| {
            routes.add(Method::GET, "/orders", orders, Credentials::Token).describe::<Description>();
        })
    })
}
