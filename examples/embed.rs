//! A gate in an actix-web application of your own, without Gatebird's routes.
//!
//! Tokens come from another process: run `gatebird serve` on the same PostgreSQL and with the same `JWT_SECRET` and
//! `JWT_ISSUER`.
//!
//! ```sh
//! PORT=8080 DATABASE_URL=postgres://... JWT_SECRET=... JWT_ISSUER=... cargo run --example embed
//! ```

use std::error::Error;

use actix_web::{HttpServer, get};
use gatebird::{App, Bearer, Config};

#[get("/orders")]
async fn orders(token: Bearer) -> String {
    format!("orders of user {}", token.tenant().get())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::read()?;
    // `HOST` and `PORT`. An application can take its address from elsewhere.
    let address = config.listen;
    // Opens the database, and follows its changes in background threads.
    let gate = App::start(config)?;
    let data = gate.clone();
    // The parameters of handlers find the gate in the application data.
    let server = HttpServer::new(move || actix_web::App::new().app_data(data.clone()).service(orders));
    tokio::select! {
        ended = server.bind(address)?.run() => ended?,
        // The database has lost changes that this process has read. A supervisor must restart the process.
        () = gate.must_end() => return Err("the database went back".into()),
    }
    // Writes what was counted last, and closes the database.
    gate.into_inner().close();
    Ok(())
}
