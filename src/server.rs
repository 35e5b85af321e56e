//! Read this first: the whole route table, the one middleware around it, and how it is bound and ended.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, apply_fn_factory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{HttpResponse, HttpServer, web};
use futures_util::FutureExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{Signal, SignalKind, signal};
pub use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_actix_web::{AppExt, scope};

use crate::api::{
    accounts, audit, domains, issued, openapi, posts, secrets, status, token, usage, verification, verify, well_known,
};
use crate::app::App;
use crate::config::{Config, Database};
use crate::connections::{Connection, Exchange, capacity_of_worker};
use crate::exit::Exit;
use crate::gate::observe::observe;
use crate::gate::routes::Routes;
use crate::logging;

/// Every route. What each one demands of its caller stands in the handler's parameters. The router asks one after the
/// other, so what is called most stands first.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(token::issue) //            POST   /token
        .service(issued::introspect) //      POST   /introspect
        .service(issued::revoke) //          POST   /revoke
        .service(verify::verify) //          any    /verify
        .route("/verify/{below:.*}", web::get().to(verify::identity))
        .service(
            scope("/v1")
                .service(token::issue_v1) // POST   /v1/token
                .service(token::test) //     GET    /v1/test
                .service(accounts::sign_up) //         POST   /v1/signup
                .service(accounts::sign_in) //         POST   /v1/signin
                .service(accounts::sign_out) //        POST   /v1/signout
                .service(accounts::me) //              GET    /v1/me
                .service(accounts::delete_account) //  DELETE /v1/me
                .service(accounts::change_password) // PUT    /v1/me/password
                .service(audit::list) //       GET    /v1/audit
                .service(domains::register) // POST   /v1/domains
                .service(domains::list) //     GET    /v1/domains
                .service(domains::show) //     GET    /v1/domains/{id}
                .service(domains::change) //   PATCH  /v1/domains/{id}
                .service(domains::remove) //   DELETE /v1/domains/{id}
                .service(secrets::rotate) //   POST   /v1/domains/{id}/secrets
                .service(secrets::list) //     GET    /v1/domains/{id}/secrets
                .service(secrets::retire) //   DELETE /v1/domains/{id}/secrets/{secretId}
                .service(usage::show) //       GET    /v1/domains/{id}/usage
                .service(verification::show) // GET   /v1/domains/{id}/verification
                .service(verification::prove) // POST /v1/domains/{id}/verification
                .service(posts::mine) //       GET    /v1/posts/my
                .service(posts::by_hashtag) // GET    /v1/posts/hashtag/{title}
                .service(posts::create) //     POST   /v1/posts
                .service(posts::show) //       GET    /v1/posts/{id}
                .service(posts::change) //     PUT    /v1/posts/{id}
                .service(posts::remove), //    DELETE /v1/posts/{id}
        )
        .service(well_known::metadata) //    GET    /.well-known/oauth-authorization-server
        .service(well_known::openid_configuration) // GET /.well-known/openid-configuration
        .service(well_known::jwks) //        GET    /.well-known/jwks.json
        .service(status::healthz) //         GET    /healthz
        .service(status::readyz) //          GET    /readyz
        .service(openapi::document); //      GET    /openapi.json
}

/// What registers routes: [`routes`], or a function of a program that uses this library. Such a function calls [`routes`]
/// and adds routes of its own, which are then treated in every way as ours.
pub type Register = fn(&mut ServiceConfig<'_>);

/// The routes that `register` registers as data, once per process.
pub fn route_table(config: &Config, register: Register) -> web::Data<Routes> {
    let (_, mut document) = actix_web::App::new().into_utoipa_app().configure(register).split_for_parts();
    openapi::complete(&mut document, config);
    web::Data::new(Routes::of(&document, config))
}

/// The actix-web application of one worker: the routes that `register` registers, inside the one middleware. `table` must be
/// the [`route_table`] of the same `register`.
pub fn application(
    app: web::Data<App>,
    table: web::Data<Routes>,
    register: Register,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    actix_web::App::new()
        .app_data(app)
        .app_data(table)
        .into_utoipa_app()
        .configure(register)
        .into_app()
        .default_service(web::to(status::unmatched))
        .wrap(from_fn(observe))
}

/// Seconds that running requests have to finish after the port is closed. With [`DRAIN`] before, a second of the metrics'
/// port and two of the ledger's last words after, the promised ten.
const SHUTDOWN: u64 = 6;
/// How long `/readyz` answers 503 before the port is closed, so that balancers notice.
const DRAIN: Duration = Duration::from_secs(1);

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 2048;
/// How long a connection that is being closed reads on, so that the client sees its last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of answers that a connection holds before they are written.
const WRITE_BUFFER_SIZE: usize = 16 * 1024;
/// Bytes that the kernel holds for a connection in each direction. Linux takes twice as much memory for them.
const KERNEL_BUFFER_SIZE: usize = 32 * 1024;

/// Serves the routes that `register` registers until SIGTERM or SIGINT. This is all that the binary does: it starts the logs,
/// takes the addresses, opens the database, greets, serves, and ends well. SIGHUP is ignored, because a server outlives the
/// terminal that it was started from.
///
/// # Errors
/// Why the server cannot start, or why it ended, with the exit status.
pub fn serve(config: Config, register: Register) -> Result<(), Exit> {
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
        // A server that cannot listen makes no database.
        let api_socket = take(config.listen).map_err(&of_api)?;
        let metrics_socket = config.metrics.map(take).transpose().map_err(&of_metrics)?;
        let app = App::start(config)?;
        let (api, address) = api(&app, api_socket, register).map_err(of_api)?;
        let metrics = metrics_socket.map(|socket| metrics(&app, socket)).transpose().map_err(of_metrics)?;
        let signals = Signals::take().map_err(failed)?;
        logging::write_line(&greeting(&app, address));
        run(app, api, metrics, signals).await
    })
}

/// What the server says when it serves.
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

/// What a newcomer can paste into a shell.
const FIRST_STEPS: &str = r#"
Try:
  USER_TOKEN=$(curl -s $URL/v1/signup -H 'Content-Type: application/json' -d '{"username":"bob","password":"correct horse battery staple"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  SECRET=$(curl -s $URL/v1/domains -H "Authorization: Bearer $USER_TOKEN" -H 'Content-Type: application/json' -d '{"host":"shop.example.com","type":"free"}' | sed 's/.*"clientSecret":"\([^"]*\)".*/\1/')
  curl -s $URL/token -H 'Content-Type: application/json' -d "{\"clientSecret\":\"$SECRET\"}"
"#;

/// Binds the API without routes of anybody else. It serves as soon as the returned server is polled.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(app: &web::Data<App>) -> io::Result<(Server, Vec<SocketAddr>)> {
    let (server, address) = api(app, take(app.config.listen)?, routes)?;
    Ok((server, vec![address]))
}

/// The server of the API on that socket.
///
/// This builds what `actix_web::HttpServer` builds, with a `Connection` in place of each TCP stream.
fn api(app: &web::Data<App>, socket: Socket, register: Register) -> io::Result<(Server, SocketAddr)> {
    let (app, table, workers) = (app.clone(), route_table(&app.config, register), app.config.workers);
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let service = move || {
        let (stopping, accepting) = (stopping.clone(), app.clone());
        let application = application(app.clone(), table.clone(), register).into_factory();
        let application = application.map_err(|error| error.error_response());
        let application = map_config(application, |()| AppConfig::default());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // The connection has timers of its own.
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
        // Database work of one worker's requests, and hashing; both have shorter queues of their own.
        .worker_max_blocking_threads(192)
        .shutdown_timeout(SHUTDOWN)
        .disable_signals()
        .listen("gatebird", listener, service)?;
    Ok((server.run(), address))
}

/// Takes an address, which may be taken again at once after a restart. Nobody can connect until the socket listens.
fn take(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // What the kernel holds for a connection would otherwise grow to several MiB.
    socket.set_recv_buffer_size(KERNEL_BUFFER_SIZE)?;
    socket.set_send_buffer_size(KERNEL_BUFFER_SIZE)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds `/metrics` on `METRICS_ADDR`, a port of its own that outsiders do not reach.
///
/// # Errors
/// When the address cannot be bound.
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

/// SIGTERM and SIGINT, which end the process well from here on. To be taken before anybody is told that it serves.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them from the operating system; within a runtime.
    fn take() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// Serves until SIGTERM or SIGINT, then drains: `/readyz` turns 503, running requests finish, what was counted last is
/// written, and the database is closed. The exit status is 75 when this node cannot follow the database any more.
async fn run(app: web::Data<App>, api: Server, metrics: Option<Server>, signals: Signals) -> Result<(), Exit> {
    let handles: Vec<ServerHandle> = metrics.iter().chain([&api]).map(Server::handle).collect();
    let draining = app.clone();
    let Signals { mut terminate, mut interrupt } = signals;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {
                draining.drain();
                tokio::time::sleep(DRAIN).await;
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
    match is_stale {
        true => Err(Exit::temporary("the database is older than what this server has seen of it; start it again")),
        false => Ok(()),
    }
}
