//! The routes as data, read from the OpenAPI document that the registration of the handlers wrote: for labels, for telling
//! a wrong method from a wrong path, and for deciding which web pages may call what.

use std::collections::HashMap;

use actix_web::dev::ResourceDef;
use actix_web::http::Method;
use actix_web::web::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, PathItem};

use super::versions::{Ending, Version};
use crate::config::Config;

/// The tag of documents that everybody may read.
pub const PUBLIC_DOCUMENTS: &str = "documents";
/// The tag of routes that take a domain's secret or token and are about nothing else.
const FOR_CLIENTS: &str = "token";

/// Where reverse proxies ask. They keep the method of the request that they ask about, and some append its path.
pub(crate) const FOR_PROXIES: &str = "/verify";

/// Whose web pages may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// None: the route takes no credential that a domain has.
    None,
    /// Those of the domains: the route takes their access tokens or secrets.
    OfDomains,
    /// All: the route is a public document.
    All,
}

/// One path pattern with the methods that it has.
#[derive(Debug)]
pub struct Route {
    /// Such as `/v1/posts/{id}`.
    pub pattern: &'static str,
    methods: Vec<&'static str>,
    matcher: ResourceDef,
    pub(super) pages: Pages,
}

/// All routes, and the document that describes them.
#[derive(Debug)]
pub struct Routes {
    /// The document as JSON.
    pub document: Bytes,
    routes: Vec<Route>,
    /// Routes without parameters, which are the hot ones.
    plain: HashMap<&'static str, usize>,
    /// The end of version 1, if it has been set.
    ending: Option<Ending>,
}

impl Routes {
    /// Reads the routes of that document. Called once per process: the patterns live as long as it.
    pub fn of(document: &OpenApi, config: &Config) -> Routes {
        let json = document.to_json().expect("the document is plain data");
        let routes: Vec<Route> = document
            .paths
            .paths
            .iter()
            .map(|(path, item)| Route {
                pattern: Box::leak(path.clone().into_boxed_str()),
                methods: methods(item),
                matcher: ResourceDef::new(path.as_str()),
                pages: pages(item),
            })
            .collect();
        let plain = routes.iter().enumerate().filter(|(_, route)| !route.pattern.contains('{'));
        Routes {
            plain: plain.map(|(index, route)| (route.pattern, index)).collect(),
            document: json.into(),
            ending: Ending::of_v1(config),
            routes,
        }
    }

    /// The end of the version that a path belongs to, if it has been set.
    pub fn ending(&self, path: &str) -> Option<&Ending> {
        let ending = self.ending.as_ref()?;
        Version::of_path(path).map(|Version::V1| ending)
    }

    /// The route of a path, whatever the method.
    pub fn find(&self, path: &str) -> Option<&Route> {
        match self.plain.get(path) {
            Some(index) => self.routes.get(*index),
            None if is_below(path, FOR_PROXIES) => self.find(FOR_PROXIES),
            None => self.routes.iter().find(|route| route.matcher.is_match(path)),
        }
    }
}

impl Route {
    /// The value of `Allow`, if the route has no such method.
    pub fn refusal(&self, method: &Method) -> Option<String> {
        let is_known = self.pattern == FOR_PROXIES || self.methods.contains(&method.as_str());
        (!is_known).then(|| self.methods())
    }

    /// The methods that it has, as a list for a header.
    pub fn methods(&self) -> String {
        self.methods.join(", ")
    }

    /// Whether the handler of GET answers that method as well. The answer to HEAD loses its body on its way to the client
    /// (RFC 9110 §9.3.2).
    pub(super) fn is_handled_as_get(&self, method: &Method) -> bool {
        method == Method::HEAD || self.pattern == FOR_PROXIES
    }
}

/// Whether a path continues another one.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

/// The operations of a path by method. A GET is a HEAD as well.
fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("HEAD", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    operations(item).map(|(method, _)| method).collect()
}

/// Whose pages may call a route follows from the credentials that its operations take.
fn pages(item: &PathItem) -> Pages {
    let has_tag = |name| operations(item).any(|(_, operation)| operation.tags.iter().flatten().any(|tag| tag == name));
    let takes_token = || operations(item).any(|(_, operation)| demands(operation.security.as_deref(), "\"token\""));
    if has_tag(PUBLIC_DOCUMENTS) {
        Pages::All
    } else if has_tag(FOR_CLIENTS) || takes_token() {
        Pages::OfDomains
    } else {
        Pages::None
    }
}

/// Whether that text stands in one of these security requirements.
pub(crate) fn demands(security: Option<&[SecurityRequirement]>, text: &str) -> bool {
    let json = |requirement| serde_json::to_string(requirement).expect("a requirement is plain data");
    security.into_iter().flatten().map(json).any(|requirement| requirement.contains(text))
}
