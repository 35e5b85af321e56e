//! Gatebird's own routes and one more.

use std::process::ExitCode;

use actix_web::get;
use gatebird::gate::bearer::Bearer;
use gatebird::server::{self, ServiceConfig};
use gatebird::{Config, process, utoipa};

#[utoipa::path(responses((status = 200, description = "Your orders")), security(("token" = [])))]
#[get("/orders")]
async fn orders(token: Bearer) -> String {
    format!("orders of user {}", token.tenant().get())
}

fn routes(config: &mut ServiceConfig<'_>) {
    server::routes(config);
    config.service(orders);
}

fn main() -> ExitCode {
    process::run(|| server::serve(Config::read()?, routes))
}
