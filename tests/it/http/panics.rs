//! A handler that panics or fails in unusual ways, behind the real middleware: the caller gets a 500 of the usual shape
//! without details, and the process continues.

use actix_web::http::Method;
use actix_web::{HttpResponse, Responder, error};
use gatebird::Bearer;
use gatebird::server::{Credentials, Routes};

use super::raw_at;
use crate::custom_routes::CustomServer;
use crate::harness::{Gate, resigned};

async fn panics() -> HttpResponse {
    panic!("the canary-cause of it")
}

async fn panics_later() -> HttpResponse {
    actix_web::rt::task::yield_now().await;
    let empty: Vec<u8> = Vec::new();
    HttpResponse::Ok().body(empty[std::hint::black_box(3)].to_string())
}

async fn fails() -> actix_web::Result<HttpResponse> {
    Err(error::ErrorInternalServerError("canary-cause: no such table users"))
}

async fn breaks() -> gatebird::error::Result<HttpResponse> {
    Err(gatebird::error::Error::internal("canary-cause at /root/src/main.rs:7"))
}

/// The example in the library's documentation.
async fn orders(token: Bearer) -> impl Responder {
    format!("orders of user {}", token.tenant().get())
}

fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/panics", panics, Credentials::Anonymous);
    routes.add(Method::GET, "/later", panics_later, Credentials::Anonymous);
    routes.add(Method::GET, "/fails", fails, Credentials::Anonymous);
    routes.add(Method::GET, "/breaks", breaks, Credentials::Anonymous);
    routes.add(Method::GET, "/orders", orders, Credentials::Token);
}

#[test]
fn handler_panic__is_a_500_and_the_server_continues() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for path in ["/panics", "/later", "/fails", "/breaks"].repeat(3) {
        let reply = own.ask("GET", path, "X-Request-Id: of-this-panic\r\nAccept-Language: ko\r\n");
        let body = reply.refused(500, "internal");
        assert_eq!(body["error"], "server_error");
        assert_eq!(body["requestId"], "of-this-panic");
        assert_eq!(body["message"], "서버 오류가 발생했습니다. 운영자에게 requestId를 알려 주세요");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(!reply.text().contains("canary") && !reply.text().contains("index out of"), "{}", reply.text());
        let next = own.ask("GET", "/orders", &bearer);
        assert_eq!((next.status, next.text()), (200, format!("orders of user {}", user.id)));
    }
    // Also on the connection of the panic.
    let pipelined = format!(
        "GET /panics HTTP/1.1\r\nHost: own\r\n\r\nGET /orders HTTP/1.1\r\nHost: own\r\nConnection: close\r\n{bearer}\r\n"
    );
    let statuses: Vec<u16> = raw_at(&own.address, pipelined.as_bytes()).iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [500, 200]);
    gate.get("/v1/test").token(&token).send().expect(200);
}

/// One parameter protects a route of another program.
#[test]
fn custom_route__protected_by_one_parameter() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    own.ask("GET", "/orders", "").refused(401, "missing");
    own.ask("GET", "/orders", "Authorization: Bearer x\r\n").refused(401, "invalid");
    let revoked = resigned(&token, |_, claims| claims["gen"] = (-1).into());
    own.ask("GET", "/orders", &format!("Authorization: {revoked}\r\n")).refused(401, "revoked");
    assert_eq!(own.ask("GET", "/orders", &format!("Authorization: {token}\r\n")).status, 200);
    gate.clock.advance(61);
    own.ask("GET", "/orders", &format!("Authorization: {token}\r\n")).refused(419, "expired");
    own.ask("GET", "/nowhere", "");
}
