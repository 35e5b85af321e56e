//! Gatebird's own routes and one more.

use std::process::ExitCode;

use actix_web::http::Method;
use gatebird::gate::bearer::Bearer;
use gatebird::server::{self, Credentials};
use gatebird::{Config, process, utoipa};

#[utoipa::path(get, path = "", responses((status = 200, description = "Your orders")))]
async fn orders(token: Bearer) -> String {
    format!("orders of user {}", token.tenant().get())
}

/// Optional: describes the handler in `/openapi.json`.
#[derive(utoipa::OpenApi)]
#[openapi(paths(orders))]
struct Description;

fn main() -> ExitCode {
    process::run(|| {
        server::serve(Config::read()?, |routes| {
            routes.add(Method::GET, "/orders", orders, Credentials::Token).describe::<Description>();
        })
    })
}
