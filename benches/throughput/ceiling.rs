//! The ceiling: the rate of actix-web on this core with a handler that only parses the body of the row's request and
//! answers as many bytes as the server under test.

use std::collections::HashMap;
use std::io::Read;

use actix_web::http::Method;
use actix_web::{App, HttpResponse, HttpServer, rt, web};
use serde::Deserialize;

use crate::Result;
use crate::server::{Cores, Server};

/// The hidden first argument that turns this executable into the ceiling.
pub(crate) const ARGUMENT: &str = "--serve-ceiling";

/// The body of `POST /token`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exchange {
    client_secret: String,
}

/// Starts the ceiling of a request: the same method, path and kind of body, and an answer of `bytes` bytes.
pub(crate) fn start(request: &[u8], bytes: usize, cores: Cores) -> Result<Server> {
    let head = String::from_utf8_lossy(request);
    let mut line = head.lines().next().unwrap_or_default().split_whitespace();
    let method = line.next().ok_or("a request without a method")?;
    let path = line.next().and_then(|target| target.split('?').next()).ok_or("a request without a path")?;
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("none");
    let arguments = [ARGUMENT, method, path, kind, &bytes.to_string()].map(str::to_owned);
    Server::start_self(&arguments, cores)
}

/// Serves until the parent process ends.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let [method, path, kind, bytes] = arguments else {
        return Err("method, path, kind and bytes".into());
    };
    let (method, path, kind) = (method.parse::<Method>()?, path.clone(), kind.clone());
    let body = web::Bytes::from(padded(bytes.parse()?));

    // The parent writes nothing. Its end of the pipe closes when it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let body = body.clone();
            let answer = move || HttpResponse::Ok().content_type("application/json").body(body.clone());
            let route = web::method(method.clone());
            // The parsed value is never empty. The check keeps the compiler from removing the parsing.
            let route = match kind.as_str() {
                "application/json" => route.to(move |body: web::Json<Exchange>| {
                    let answer =
                        if body.client_secret.is_empty() { HttpResponse::BadRequest().finish() } else { answer() };
                    std::future::ready(answer)
                }),
                "application/x-www-form-urlencoded" => route.to(move |body: web::Form<HashMap<String, String>>| {
                    let answer = if body.is_empty() { HttpResponse::BadRequest().finish() } else { answer() };
                    std::future::ready(answer)
                }),
                _ => route.to(move || std::future::ready(answer())),
            };
            App::new().route(&path, route)
        })
        .workers(1)
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or("not listening")?;
        println!("{address}");
        Ok(server.run().await?)
    })
}

/// A JSON document of exactly that many bytes, or the shortest one if that is longer.
fn padded(bytes: usize) -> String {
    let frame = r#"{"pad":""}"#.len();
    format!(r#"{{"pad":"{}"}}"#, "x".repeat(bytes.saturating_sub(frame)))
}
