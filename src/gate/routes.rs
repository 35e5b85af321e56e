//! The routes as data, read from the OpenAPI document that the registration of the handlers wrote: for labels, and for
//! telling a wrong method from a wrong path.

use std::collections::HashMap;

use actix_web::dev::ResourceDef;
use actix_web::web::Bytes;
use utoipa::openapi::{OpenApi, PathItem};

use super::versions::{Ending, Version};
use crate::config::Config;

/// One path pattern with the methods that it has.
#[derive(Debug)]
pub struct Route {
    /// Such as `/v1/posts/{id}`.
    pub pattern: &'static str,
    methods: Vec<&'static str>,
    matcher: ResourceDef,
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
            None => self.routes.iter().find(|route| route.matcher.is_match(path)),
        }
    }
}

impl Route {
    /// The value of `Allow`, if the route has no such method.
    pub fn refusal(&self, method: &str) -> Option<String> {
        (!self.methods.contains(&method)).then(|| self.methods())
    }

    /// The methods that it has, as a list for a header.
    pub fn methods(&self) -> String {
        self.methods.join(", ")
    }
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let operations = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    operations.iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| *method).collect()
}
