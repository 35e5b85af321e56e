//! The server: the table of all routes, and how it is bound, run and stopped. [`serve`] runs it with routes of your own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, apply, apply_fn_factory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{HttpResponse, HttpServer, web};
use futures_util::FutureExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::{
    accounts, audit, domains, issued, openapi, posts, secrets, status, token, usage, verification, verify, well_known,
};
use crate::app::App;
use crate::config::{Config, Database};
use crate::connections::{Connection, Exchange, capacity_of_worker};
use crate::exit::Exit;
use crate::gate::bearer::Scope;
use crate::gate::observe::observe;
pub use crate::gate::routes::{Credentials, Kind, Limit, Operation, Routes};
use crate::gate::versions::Ending;
use crate::logging;

/// Every route of Gatebird: its method and path, its handler, the credentials that it takes, the limit that a request counts
/// to, and its kind where it is not plain. The router compares paths in this order, so paths that are called most come first,
/// and `/v1/posts/my` comes before `/v1/posts/{id}`.
fn add_routes(routes: &mut Routes) {
    use Credentials::{Anonymous, Client, Scoped, Secret, Token, UserToken};
    const READ: Credentials = Scoped(posts::PostsRead::NAME);
    const WRITE: Credentials = Scoped(posts::PostsWrite::NAME);
    rows! { routes:
        POST   "/token",                                   token::issue,                     Client,    Plan;
        POST   "/v1/token",                                token::issue_v1,                  Secret,    Plan;
        GET    "/v1/test",                                 token::test,                      Token,     Plan;
        GET    "/verify",                                  verify::verify,                   Token,     Plan, ProxyCheck;
        POST   "/introspect",                              issued::introspect,               Client,    Plan;
        POST   "/revoke",                                  issued::revoke,                   Client,    None;

        POST   "/v1/signup",                               accounts::sign_up,                Anonymous, None;
        POST   "/v1/signin",                               accounts::sign_in,                Anonymous, None;
        POST   "/v1/signout",                              accounts::sign_out,               UserToken, Plan;
        GET    "/v1/me",                                   accounts::me,                     UserToken, Reads;
        DELETE "/v1/me",                                   accounts::delete_account,         UserToken, Plan;
        PUT    "/v1/me/password",                          accounts::change_password,        UserToken, Plan;
        GET    "/v1/audit",                                audit::list,                      UserToken, Reads;

        GET    "/v1/domains",                              domains::list,                    UserToken, Reads;
        POST   "/v1/domains",                              domains::register,                UserToken, Changes;
        GET    "/v1/domains/{id}",                         domains::show,                    UserToken, Reads;
        PATCH  "/v1/domains/{id}",                         domains::change,                  UserToken, Changes;
        DELETE "/v1/domains/{id}",                         domains::remove,                  UserToken, Plan;
        GET    "/v1/domains/{id}/secrets",                 secrets::list,                    UserToken, Reads;
        POST   "/v1/domains/{id}/secrets",                 secrets::rotate,                  UserToken, Changes;
        DELETE "/v1/domains/{id}/secrets/{secretId}",      secrets::retire,                  UserToken, Plan;
        GET    "/v1/domains/{id}/usage",                   usage::show,                      UserToken, Reads;
        GET    "/v1/domains/{id}/verification",            verification::show,               UserToken, Reads;
        POST   "/v1/domains/{id}/verification",            verification::prove,              UserToken, Changes;

        GET    "/v1/posts/my",                             posts::mine,                      READ,      Reads;
        GET    "/v1/posts/hashtag/{title}",                posts::by_hashtag,                READ,      Reads;
        POST   "/v1/posts",                                posts::create,                    WRITE,     Changes;
        GET    "/v1/posts/{id}",                           posts::show,                      READ,      Reads;
        PUT    "/v1/posts/{id}",                           posts::change,                    WRITE,     Changes;
        DELETE "/v1/posts/{id}",                           posts::remove,                    WRITE,     Plan;

        GET    "/.well-known/oauth-authorization-server",  well_known::metadata,             Anonymous, None, Document;
        GET    "/.well-known/openid-configuration",        well_known::openid_configuration, Anonymous, None, Document;
        GET    "/.well-known/jwks.json",                   well_known::jwks,                 Anonymous, None, Document;
        GET    "/openapi.json",                            openapi::document,                Anonymous, None, Document;
        GET    "/healthz",                                 status::healthz,                  Anonymous, None, Status;
        GET    "/readyz",                                  status::readyz,                   Anonymous, None, Status;
    }
}

/// Adds rows of a table, each with the description that `#[utoipa::path]` wrote for its handler.
macro_rules! rows {
    ($routes:ident: $($method:ident $path:literal, $module:ident::$handler:ident, $credentials:expr, $limit:ident $(, $kind:ident)?;)*) => {
        $({
            #[derive(utoipa::OpenApi)]
            #[openapi(paths($module::$handler))]
            struct Description;
            let operation = $routes.add(Method::$method, $path, $module::$handler, $credentials);
            operation.limit(Limit::$limit)$(.kind(Kind::$kind))?.describe::<Description>();
        })*
    };
}
use rows;

/// Gatebird's routes and those that `add` adds, with the data that handlers need beside the [`App`].
#[doc(hidden)]
pub fn routes(config: &Config, add: impl FnOnce(&mut Routes)) -> Routes {
    let mut routes = Routes::default();
    add_routes(&mut routes);
    add(&mut routes);
    let document = openapi::Document::of(&routes, config);
    routes.app_data(web::Data::new(document));
    if let Some(ending) = Ending::of_v1(config) {
        routes.app_data(Arc::new(ending));
    }
    routes
}

/// The actix-web application of one worker.
#[doc(hidden)]
pub fn application(
    app: web::Data<App>,
    routes: &Routes,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    actix_web::App::new()
        .app_data(app)
        .configure(|config| routes.register(config))
        .default_service(apply(from_fn(observe), web::to(status::unmatched)))
}

/// Seconds for which running requests may finish after the port is closed. The documentation promises an end within ten
/// seconds: [`DRAIN_TIME`] comes before, and a second of the metrics' port and two of the last writes come after.
const SHUTDOWN_TIMEOUT: u64 = 6;
/// How long `/readyz` answers 503 before the port is closed, so that load balancers notice.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 2048;
/// How long a closed connection still reads, so that the client receives its last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of answers that a connection collects before it writes.
const WRITE_BUFFER_SIZE: usize = 16 * 1024;
/// Bytes that the kernel buffers for a connection in each direction. Linux uses twice as much memory.
const KERNEL_BUFFER_SIZE: usize = 32 * 1024;

/// Serves Gatebird's routes, and those that `add` adds, until SIGTERM or SIGINT.
///
/// It does everything that the `gatebird` binary does: it starts the logs, takes the addresses, opens the database, prints a
/// greeting, and at the end answers running requests and writes the last counts. SIGHUP is ignored, because a server outlives
/// the terminal that it was started from.
///
/// # Errors
/// If the server cannot start, or ended by itself. The error has the exit status; see [`run`](crate::run).
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use actix_web::http::Method;
/// use gatebird::server::{Credentials, serve};
/// use gatebird::{Bearer, Config};
///
/// async fn orders(token: Bearer) -> String {
///     format!("orders of user {}", token.tenant().get())
/// }
///
/// fn main() -> ExitCode {
///     gatebird::run(|| {
///         serve(Config::read()?, |routes| {
///             routes.add(Method::GET, "/orders", orders, Credentials::Token);
///         })
///     })
/// }
/// ```
pub fn serve(config: Config, add: impl FnOnce(&mut Routes)) -> Result<(), Exit> {
    logging::start(&config.log_filter);
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    actix_web::rt::System::new().block_on(async {
        let failed = |error: io::Error| Exit::software(format!("the server ended: {error}"));
        let _ignored = signal(SignalKind::hangup()).map_err(failed)?;
        let cannot_listen =
            |what: String| move |error: io::Error| Exit::cannot_create(format!("cannot listen on {what}: {error}"));
        let of_api = cannot_listen(format!("{} (HOST, PORT)", config.listen));
        let of_metrics =
            cannot_listen(config.metrics.map_or_else(String::new, |address| format!("{address} (METRICS_ADDR)")));
        // A server that cannot listen must not create a database.
        let api_socket = take(config.listen).map_err(&of_api)?;
        let metrics_socket = config.metrics.map(take).transpose().map_err(&of_metrics)?;
        let app = App::start(config)?;
        let (api, address) = api(&app, api_socket, add).map_err(of_api)?;
        let metrics = metrics_socket.map(|socket| metrics(&app, socket)).transpose().map_err(of_metrics)?;
        // From the greeting on, a signal must not kill the process.
        let signals =
            (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
        logging::write_line(greeting(&app, address));
        run(app, api, metrics, signals).await
    })
}

/// The lines that a server prints once it serves.
fn greeting(app: &App, address: SocketAddr) -> String {
    let url = &app.config.public_url;
    let metrics = app.config.metrics.map_or("off".to_owned(), |address| format!("http://{address}/metrics"));
    let data = match &app.config.database {
        Database::Sqlite(path) => format!("sqlite://{}", std::path::absolute(path).as_ref().unwrap_or(path).display()),
        postgres => format!("{postgres:?}"),
    };
    let is_new = if app.db.is_new() { " (made a new database)" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    let mut greeting = format!(
        "Gatebird {version} listens on http://{address} (public: {url}), metrics: {metrics}\nData: {data}{is_new}\n"
    );
    if app.directory.user_count() == 0 {
        greeting.push_str(&FIRST_STEPS.replace("$URL", url));
    }
    greeting
}

/// Commands for the shell of a newcomer.
const FIRST_STEPS: &str = r#"
Try:
  USER_TOKEN=$(curl -s $URL/v1/signup -H 'Content-Type: application/json' -d '{"username":"bob","password":"correct horse battery staple"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  SECRET=$(curl -s $URL/v1/domains -H "Authorization: Bearer $USER_TOKEN" -H 'Content-Type: application/json' -d '{"host":"shop.example.com","type":"free"}' | sed 's/.*"clientSecret":"\([^"]*\)".*/\1/')
  curl -s $URL/token -H 'Content-Type: application/json' -d "{\"clientSecret\":\"$SECRET\"}"
"#;

/// Binds the API, with Gatebird's routes alone. It serves as soon as the returned server is polled.
///
/// # Errors
/// If the address cannot be bound.
#[doc(hidden)]
pub fn bind(app: &web::Data<App>) -> io::Result<(Server, Vec<SocketAddr>)> {
    let (server, address) = api(app, take(app.config.listen)?, |_| {})?;
    Ok((server, vec![address]))
}

/// The server of the API on a socket: what `actix_web::HttpServer` builds, with a [`Connection`] in place of each TCP stream.
fn api(app: &web::Data<App>, socket: Socket, add: impl FnOnce(&mut Routes)) -> io::Result<(Server, SocketAddr)> {
    let (app, routes, workers) = (app.clone(), Arc::new(routes(&app.config, add)), app.config.workers);
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let service = move || {
        let (stopping, accepting) = (stopping.clone(), app.clone());
        let application = application(app.clone(), &routes).into_factory();
        let application = application.map_err(|error| error.error_response());
        let application = map_config(application, |()| AppConfig::default());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // A `Connection` has its own timers.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER_TIMEOUT)
            .h1_write_buffer_size(WRITE_BUFFER_SIZE)
            .on_connect_ext(|connection: &Connection, data| drop(data.insert(connection.exchange())))
            .h1(apply_fn_factory(application, |mut request: Request, application: &_| {
                let exchange = Exchange::begin(&mut request);
                Service::call(application, request)
                    .inspect(move |_| exchange.iter().for_each(|exchange| exchange.end()))
            }));
        let accept = move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            let address = peer.map(|peer| peer.ip());
            let connection = accepting.connections.admit(stream, address, &accepting.metrics);
            async move { connection.map(|connection| (connection, peer)).ok_or(()) }
        };
        fn_service(accept).and_then(http.map_err(drop))
    };
    let server = builder
        .workers(workers)
        .max_concurrent_connections(capacity_of_worker(workers))
        // Database work and hashing run here. Both have shorter queues of their own.
        .worker_max_blocking_threads(192)
        .shutdown_timeout(SHUTDOWN_TIMEOUT)
        .disable_signals()
        .listen("gatebird", listener, service)?;
    Ok((server.run(), address))
}

/// Binds an address, without listening yet. A restarted server can bind the address again at once.
fn take(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // By default, the buffers grow to several MiB.
    socket.set_recv_buffer_size(KERNEL_BUFFER_SIZE)?;
    socket.set_send_buffer_size(KERNEL_BUFFER_SIZE)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds `/metrics` on `METRICS_ADDR`, a port of its own for monitoring.
///
/// # Errors
/// If the address cannot be bound.
#[doc(hidden)]
pub fn bind_metrics(app: &web::Data<App>, address: SocketAddr) -> io::Result<Server> {
    metrics(app, take(address)?)
}

fn metrics(app: &web::Data<App>, socket: Socket) -> io::Result<Server> {
    let app = app.clone();
    let metrics = |app: web::Data<App>| async move {
        HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics_text())
    };
    let resource = move || web::resource("/metrics").route(web::get().to(metrics)).route(web::head().to(metrics));
    let server = HttpServer::new(move || actix_web::App::new().app_data(app.clone()).service(resource()));
    socket.listen(BACKLOG)?;
    Ok(server.workers(1).shutdown_timeout(1).disable_signals().listen(socket.into())?.run())
}

/// Serves until SIGTERM or SIGINT, then drains: `/readyz` answers 503, running requests finish, the last counts are written,
/// and the database is closed. The exit status is 75 if the database is older than what this node has seen of it.
async fn run(app: web::Data<App>, api: Server, metrics: Option<Server>, signals: (Signal, Signal)) -> Result<(), Exit> {
    let handles: Vec<ServerHandle> = metrics.iter().chain([&api]).map(Server::handle).collect();
    let draining = app.clone();
    let (mut terminate, mut interrupt) = signals;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {
                draining.drain();
                tokio::time::sleep(DRAIN_TIME).await;
            }
            _ = interrupt.recv() => draining.drain(),
            () = draining.must_end() => draining.drain(),
        }
        for handle in handles.into_iter().rev() {
            handle.stop(true).await;
        }
    };
    let serve_metrics = async {
        match metrics {
            Some(server) => server.await,
            None => Ok(()),
        }
    };
    actix_web::rt::spawn(stop);
    let (api, metrics) = futures_util::future::join(api, serve_metrics).await;
    let is_stale = app.directory.is_stale();
    web::block(move || app.into_inner().close()).await.map_err(Exit::software)?;
    api.and(metrics).map_err(|error| Exit::software(format!("the server ended: {error}")))?;
    if is_stale {
        return Err(Exit::temporary("the database is older than what this server has seen of it; start it again"));
    }
    Ok(())
}
