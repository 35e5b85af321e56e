//! Routes that a program adds with the library are served like Gatebird's own.

use std::sync::{Arc, mpsc};

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{HttpServer, web};
use diesel::connection::SimpleConnection;
use gatebird::server::{self, Credentials, Limit, Routes};
use gatebird::{AccessToken, Bearer, Scope, Scoped, UserToken, utoipa};

use crate::binary::{PROMISED, within};
use crate::harness::{Gate, Reply, json};
use crate::http::raw_at;

async fn orders(token: Bearer) -> String {
    format!("orders of user {}", token.tenant().get())
}

#[utoipa::path(delete, path = "", params(("number" = u32, Path)), responses((status = 200)))]
async fn cancel(_: Bearer, number: web::Path<u32>) -> String {
    number.to_string()
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(cancel))]
struct Cancel;

async fn count(_: UserToken, counted: web::Data<&'static str>) -> String {
    counted.to_string()
}

async fn panics() -> String {
    panic!("the canary-cause of it")
}

struct OrdersRead;

impl Scope for OrdersRead {
    const NAME: &'static str = "orders:read";
}

#[utoipa::path(get, path = "", responses((status = 200)))]
async fn scoped(token: Scoped<OrdersRead>) -> String {
    token.claims().scope.to_string()
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(scoped))]
struct ScopedOrders;

async fn client(token: AccessToken) -> String {
    format!("{} {} {} {}", token.client_id(), token.host(), token.plan().as_str(), token.tenant().get())
}

fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/scoped", scoped, Credentials::Scoped(OrdersRead::NAME)).describe::<ScopedOrders>();
    routes.add(Method::GET, "/client", client, Credentials::Token);
    routes.app_data(web::Data::new("counted"));
    routes.add(Method::GET, "/orders", orders, Credentials::Token);
    routes.add(Method::DELETE, "/orders/{number}", cancel, Credentials::Token).describe::<Cancel>();
    // Takes no credentials of a domain, so pages cannot call it.
    routes.add(Method::POST, "/panics", panics, Credentials::Anonymous);
    routes.add(Method::POST, "/counted", count, Credentials::UserToken);
    routes.add(Method::POST, "/free", count, Credentials::UserToken).limit(Limit::None);
}

/// A server with routes of its own around the app of `gate`, on another port.
pub struct CustomServer {
    pub address: String,
    handle: ServerHandle,
}

impl CustomServer {
    pub fn around(gate: &Gate, add: fn(&mut Routes)) -> CustomServer {
        let (sender, receiver) = mpsc::channel();
        let app = gate.app.clone();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let routes = Arc::new(server::routes(&app.config, add));
                let server = HttpServer::new(move || server::application(app.clone(), &routes));
                let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
                let address = server.addrs()[0].to_string();
                let server = server.run();
                sender.send((address, server.handle())).expect("the receiver is waiting");
                server.await.expect("the server ends well");
            });
        });
        let (address, handle) = receiver.recv().expect("the server starts");
        CustomServer { address, handle }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: own\r\nConnection: close\r\n{headers}\r\n");
        let mut replies = raw_at(&self.address, request.as_bytes());
        assert_eq!(replies.len(), 1, "{method} {path}: {replies:?}");
        replies.remove(0)
    }
}

impl Drop for CustomServer {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

#[test]
fn custom_route__answered_like_built_in_routes() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let reply = own.ask("GET", "/orders", &bearer);
    assert_eq!((reply.status, reply.text()), (200, format!("orders of user {}", user.id)));
    assert_eq!(own.ask("DELETE", "/orders/7", &bearer).text(), "7");
    own.ask("GET", "/orders", "").refused(401, "missing");
    for (method, path, allow) in [
        ("POST", "/orders", "GET, HEAD"),
        ("OPTIONS", "/orders", "GET, HEAD"),
        ("BOGUS", "/orders", "GET, HEAD"),
        ("GET", "/orders/7", "DELETE"),
        ("OPTIONS", "/orders/7", "DELETE"),
        ("GET", "/panics", "POST"),
    ] {
        let reply = own.ask(method, path, "Accept-Language: ko\r\n");
        reply.refused(405, "method");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
    for path in ["/order", "/orders/", "/orders/7/8", "/"] {
        own.ask("GET", path, &bearer).refused(404, "not_found");
    }
    own.ask("DELETE", "/orders/x", &bearer).refused(404, "not_found");
    // Gatebird's own routes still work.
    own.ask("GET", "/v1/test", &bearer).expect(200);
}

#[test]
fn custom_route__documented_if_described() {
    let gate = Gate::start();
    let document = CustomServer::around(&gate, routes).ask("GET", "/openapi.json", "").json();
    let cancel = &document["paths"]["/orders/{number}"]["delete"];
    assert_eq!(cancel["security"], json!([{"token": []}]));
    for status in ["200", "401", "419", "429", "404", "405"] {
        assert!(cancel["responses"][status].is_object(), "{status}: {cancel}");
    }
    assert!(document["paths"]["/orders"].is_null());
}

#[test]
fn custom_route__counts_to_its_limit() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "1/h")]);
    let user = gate.sign_up("alice");
    let own = CustomServer::around(&gate, routes);
    let bearer = format!("Authorization: Bearer {}\r\n", user.token);
    assert_eq!(own.ask("POST", "/counted", &bearer).text(), "counted");
    own.ask("POST", "/counted", &bearer).refused(429, "account");
    assert_eq!(own.ask("POST", "/free", &bearer).status, 200);
}

#[test]
fn custom_route__head_is_its_get() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let own = CustomServer::around(&gate, routes);
    let ask = |path: &str, rest: &str| format!("HEAD {path} HTTP/1.1\r\nHost: own\r\n{rest}\r\n");
    let pipelined = [ask("/orders", ""), ask("/orders", &bearer), ask("/panics", "Connection: close\r\n")].concat();
    let mut stream = std::net::TcpStream::connect(&own.address).expect("the server listens");
    std::io::Write::write_all(&mut stream, pipelined.as_bytes()).expect("sent");
    let mut answers = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answers).expect("the server answers and closes");
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["401", "200", "405"], "{answers}");
}

#[test]
fn custom_route__panic_is_a_500_and_the_connection_is_kept() {
    let gate = Gate::start();
    let own = CustomServer::around(&gate, routes);
    let ask = |method: &str, path: &str, rest: &str| format!("{method} {path} HTTP/1.1\r\nHost: own\r\n{rest}\r\n");
    let pipelined = [
        ask("POST", "/panics", "X-Request-Id: of-this-panic\r\n"),
        ask("POST", "/panics", ""),
        ask("GET", "/orders", "Connection: close\r\n"),
    ];
    let answers = raw_at(&own.address, pipelined.concat().as_bytes());
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [500, 500, 401]);
    assert_eq!(answers[0].refused(500, "internal")["requestId"], "of-this-panic");
    assert!(!answers[0].text().contains("canary"));
}

#[test]
fn custom_route__counted_by_its_pattern() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    own.ask("DELETE", "/orders/7", &bearer);
    own.ask("DELETE", "/orders/8", &bearer);
    own.ask("OPTIONS", "/orders", "");
    own.ask("POST", "/panics", "");
    let metrics = gate.app.metrics_text();
    for line in [
        "{route=\"/orders/{number}\",method=\"DELETE\",status=\"200\"} 2",
        "{route=\"/orders\",method=\"OPTIONS\",status=\"405\"} 1",
        "{route=\"/panics\",method=\"POST\",status=\"500\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// A page can call a route that takes its domain's token, and no other.
#[test]
fn custom_route__answers_preflights_if_it_takes_a_token() {
    let gate = Gate::start();
    gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let page = "Origin: https://alice.example.com\r\nAccess-Control-Request-Method: DELETE\r\n";
    let reply = own.ask("OPTIONS", "/orders/7", page);
    assert_eq!((reply.status, reply.header("access-control-allow-methods")), (204, Some("DELETE")));
    let reply = own.ask("OPTIONS", "/orders", page);
    assert_eq!((reply.status, reply.header("access-control-allow-methods")), (204, Some("GET, HEAD")));
    own.ask("OPTIONS", "/orders/7", &page.replace("alice", "evil")).refused(403, "origin");
    own.ask("OPTIONS", "/panics", page).refused(405, "method");
}

#[test]
fn own_route__demands_its_own_scope() {
    let gate = Gate::with(&[("SCOPES", "posts:read orders:read")]);
    let (user, domain, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let form = "grant_type=client_credentials&scope=posts:read";
    let other = gate.post("/token").basic(&domain.id, &domain.secret).form(form).send().expect(200);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(own.ask("GET", "/scoped", &bearer(&token)).text(), "posts:read orders:read");
    assert_eq!(own.ask("GET", "/scoped", &bearer(&user.token)).status, 200);
    let reply = own.ask("GET", "/scoped", &bearer(other["access_token"].as_str().expect("a token")));
    reply.refused(403, "scope");
    let challenge = reply.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    let page = "Origin: https://alice.example.com\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(own.ask("OPTIONS", "/scoped", page).status, 204);
    let document = own.ask("GET", "/openapi.json", "").json();
    let described = &document["paths"]["/scoped"]["get"];
    assert_eq!(described["security"], json!([{"token": ["orders:read"]}]));
    assert!(described["responses"]["403"].is_object(), "{described}");
}

#[test]
fn own_route__learns_which_domain_calls() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let own = CustomServer::around(&gate, routes);
    let reply = own.ask("GET", "/client", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!((reply.status, reply.text()), (200, format!("{} alice.example.com free {}", domain.id, user.id)));
    own.ask("GET", "/client", &format!("Authorization: Bearer {}\r\n", user.token)).refused(403, "kind");
}

#[test]
#[should_panic(expected = "GET /v1/test has a handler already")]
fn own_route__cannot_replace_one_of_ours() {
    let config = gatebird::Config::load(|_| None).expect("the defaults are good");
    server::routes(&config, |routes| {
        routes.add(Method::GET, "/v1/test", orders, Credentials::Token);
    });
}

/// An application of one's own has the extractors alone.
#[test]
fn own_application__refuses_every_token_after_the_database_went_back() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let ask = || {
        actix_web::rt::System::new().block_on(async {
            let app = actix_web::App::new().app_data(gate.app.clone()).route("/orders", web::get().to(orders));
            let service = init_service(app).await;
            let request = TestRequest::get().uri("/orders");
            let request = request.insert_header(("Authorization", format!("Bearer {token}"))).to_request();
            call_service(&service, request).await.status().as_u16()
        })
    };
    assert_eq!(ask(), 200);
    let back = "UPDATE revision SET value = value - 1";
    gate.database.open().write_now(|conn| Ok(conn.batch_execute(back)?)).expect("the database answers");
    within(PROMISED, "tokens are refused", || ask() == 503);
}
