//! Routes with their facts: which credentials a route takes, which limit a request counts to, and what kind of route it is.
//! The middleware, the extractors and the OpenAPI document read the facts here. The table of all routes is in
//! [`crate::server`].

use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, web};
use utoipa::OpenApi;

use super::forwarded::APPENDED_PATH;
use super::observe::observe;

/// The credentials that a route takes. The parameters of its handler check them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// None, or some that only the handler checks, such as a password.
    Anonymous,
    /// A client secret in a JSON body.
    #[doc(hidden)]
    Secret,
    /// Client credentials by HTTP Basic or in a form (RFC 6749 §2.3.1, RFC 7523 §2.2).
    #[doc(hidden)]
    Client,
    /// An access token or a user token: the handler has a [`Bearer`](crate::Bearer) or an
    /// [`AccessToken`](crate::AccessToken).
    Token,
    /// An access token or a user token with this scope: the handler has a [`Scoped`](crate::Scoped).
    Scoped(&'static str),
    /// A user token: the handler has a [`UserToken`](crate::UserToken).
    UserToken,
}

/// The limit that a request counts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// None of the following. The handler may have a limit of its own.
    None,
    /// The plan's limit of the calling domain. A user has no limit.
    Plan,
    /// The plan's limit of the calling domain, or ten times `LIMIT_CHANGES` of the calling user.
    Reads,
    /// The plan's limit of the calling domain, or `LIMIT_CHANGES` of the calling user.
    Changes,
}

/// What a route is for, where that changes how it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A route of an API.
    Plain,
    /// A public document. Web pages of every origin may read it.
    Document,
    /// The state of this node. It is answered even when the database is older than what the node has seen of it, which ends
    /// everything else.
    Status,
    /// A question of a reverse proxy about a request. Proxies keep the method of that request, and some append its path: the
    /// route has every method, and all paths below its own. Proxies know no refusals but 401 and 403.
    #[doc(hidden)]
    ProxyCheck,
}

/// One method of one path, with its handler and its facts. [`Routes::add`] returns it.
#[derive(Clone)]
pub struct Operation {
    /// GET serves HEAD as well.
    pub method: Method,
    /// A pattern of actix-web, such as `/v1/posts/{id}`.
    pub path: &'static str,
    pub(crate) credentials: Credentials,
    pub(crate) limit: Limit,
    pub(crate) kind: Kind,
    /// A document that describes this operation alone.
    pub(crate) description: Option<fn() -> utoipa::openapi::OpenApi>,
    /// Makes the handler of a worker.
    handler: Arc<dyn Fn() -> actix_web::Route + Send + Sync>,
}

impl Operation {
    /// Sets the limit. By default, a safe method (RFC 9110 §9.2.1) and DELETE count to [`Limit::Plan`], every other method to
    /// [`Limit::Changes`].
    pub fn limit(&mut self, limit: Limit) -> &mut Operation {
        self.limit = limit;
        self
    }

    /// Sets the kind. The default is [`Kind::Plain`].
    pub fn kind(&mut self, kind: Kind) -> &mut Operation {
        self.kind = kind;
        self
    }

    /// Describes the operation in `/openapi.json`, where it is absent by default. `D` must list one handler in its
    /// `paths(...)`, with the method of the route. The route's path and credentials replace those of the description.
    pub fn describe<D: OpenApi>(&mut self) -> &mut Operation {
        self.description = Some(D::openapi);
        self
    }
}

/// The routes of a server, in the order in which the router compares paths. [`serve`](crate::server::serve) passes them to
/// the program that adds its own.
#[derive(Default)]
pub struct Routes {
    operations: Vec<Operation>,
    data: Vec<Box<AddData>>,
}

type AddData = dyn Fn(&mut web::ServiceConfig) + Send + Sync;

impl Routes {
    /// Adds a handler. `path` is a pattern of actix-web, such as `/orders/{id}`. `credentials` must be those that the
    /// handler's parameters check.
    ///
    /// The route is served like Gatebird's own: with HEAD beside GET, 405 for other methods, pre-flights, limits, 500 after a
    /// panic, and metrics under `path`. The returned [`Operation`] changes its limit and its kind, and describes it.
    ///
    /// # Panics
    /// If the method of the path has a handler already.
    ///
    /// # Examples
    ///
    /// ```
    /// use actix_web::http::Method;
    /// use gatebird::server::{Credentials, Limit, Routes};
    /// use gatebird::{Bearer, UserToken};
    ///
    /// async fn orders(token: Bearer) -> String {
    ///     format!("orders of user {}", token.tenant().get())
    /// }
    ///
    /// async fn search(_: UserToken) -> &'static str {
    ///     "nothing found"
    /// }
    ///
    /// fn add_routes(routes: &mut Routes) {
    ///     routes.add(Method::GET, "/orders", orders, Credentials::Token);
    ///     // A POST that changes nothing need not count as a change.
    ///     routes.add(Method::POST, "/orders/search", search, Credentials::UserToken).limit(Limit::Plan);
    /// }
    /// ```
    pub fn add<H, P>(
        &mut self,
        method: Method,
        path: &'static str,
        handler: H,
        credentials: Credentials,
    ) -> &mut Operation
    where
        H: Handler<P, Output: Responder + 'static> + Send + Sync,
        P: FromRequest + 'static,
    {
        let is_taken = self.operations().any(|known| known.path == path && known.method == method);
        assert!(!is_taken, "{method} {path} has a handler already");
        let guard = method.clone();
        self.operations.push(Operation {
            limit: Limit::of_method(&method),
            method,
            path,
            credentials,
            kind: Kind::Plain,
            description: None,
            handler: Arc::new(move || web::method(guard.clone()).to(handler.clone())),
        });
        self.operations.last_mut().expect("one was pushed")
    }

    /// Adds data for handlers and extractors, such as a [`web::Data`]; see [`actix_web::App::app_data`].
    pub fn app_data(&mut self, data: impl Clone + Send + Sync + 'static) {
        self.data.push(Box::new(move |config| {
            config.app_data(data.clone());
        }));
    }

    /// All operations, in their order.
    #[doc(hidden)]
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter()
    }

    /// Adds the routes to the actix-web application of a worker, each inside the middleware.
    pub(crate) fn register(&self, config: &mut web::ServiceConfig) {
        self.data.iter().for_each(|add| add(config));
        for route in self.by_path().into_iter().map(Rc::new) {
            let below = route.is(Kind::ProxyCheck).then(|| format!("{}/{{{APPENDED_PATH}:.*}}", route.path));
            for pattern in iter::once(route.path.to_owned()).chain(below) {
                let resource = web::resource(pattern).app_data(Rc::clone(&route));
                let handlers = route.operations.iter().map(|operation| (operation.handler)());
                config.service(handlers.fold(resource, Resource::route).wrap(from_fn(observe)));
            }
        }
    }

    fn by_path(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for operation in self.operations.iter().cloned() {
            match routes.iter_mut().find(|route| route.path == operation.path) {
                Some(route) => route.operations.push(operation),
                None => routes.push(Route { path: operation.path, operations: vec![operation] }),
            }
        }
        routes
    }
}

/// The operations of one path. A request has the route that the router chose in its application data.
pub(super) struct Route {
    pub(super) path: &'static str,
    operations: Vec<Operation>,
}

/// Web pages that may call a route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// None, so that no page signs its visitors in.
    None,
    /// Those of the domains.
    OfDomains,
    /// All.
    All,
}

impl Route {
    /// The operation that serves a method. GET serves HEAD as well: the answer to HEAD loses its body on its way to the client
    /// (RFC 9110 §9.3.2).
    pub(super) fn operation(&self, method: &Method) -> Option<&Operation> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.operations.iter().find(|operation| operation.method == *method || operation.kind == Kind::ProxyCheck)
    }

    /// The methods, as a list for a header.
    pub(super) fn methods(&self) -> String {
        let names = self.operations.iter().map(|operation| match operation.method.as_str() {
            "GET" => "GET, HEAD",
            method => method,
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether the route is of that kind.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.operations.iter().any(|operation| operation.kind == kind)
    }

    /// The web pages that may call the route. Those of a domain may where the route takes credentials that a domain has.
    pub(super) fn pages(&self) -> Pages {
        let of_domains =
            |operation: &Operation| !matches!(operation.credentials, Credentials::Anonymous | Credentials::UserToken);
        if self.is(Kind::Document) {
            Pages::All
        } else if self.operations.iter().any(of_domains) {
            Pages::OfDomains
        } else {
            Pages::None
        }
    }
}

impl Limit {
    fn of_method(method: &Method) -> Limit {
        // A thief with a user token must not be able to use up the limit that the user needs for deletions.
        if method.is_safe() || method == Method::DELETE { Limit::Plan } else { Limit::Changes }
    }

    /// The limit that a request counts to. In an application without [`Routes`], the method decides.
    pub(super) fn of(req: &HttpRequest) -> Limit {
        let operation = req.app_data::<Rc<Route>>().and_then(|route| route.operation(req.method()));
        operation.map_or_else(|| Limit::of_method(req.method()), |operation| operation.limit)
    }
}
