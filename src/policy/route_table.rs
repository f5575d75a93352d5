//! Finding the route of a request: host, method and canonical path, most specific first.
//!
//! A named host beats any host; a literal segment beats `{param}`, which beats `/**`; a listed method beats any
//! method. Only routes that take the request's method compete. A tie cannot exist in a built table: it is a
//! [`TableError`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use super::{Methods, Route};

/// All routes, compiled into one segment tree per host.
#[derive(Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    by_host: HashMap<Box<str>, Node>,
    any_host: Node,
}

/// One position in a path. Routes are kept by index into the table.
#[derive(Default)]
struct Node {
    /// Sorted by segment, for binary search.
    literals: Vec<(Box<str>, Node)>,
    parameter: Option<Box<Node>>,
    /// Routes that end here.
    here: Vec<usize>,
    /// Routes that end here with `/**`.
    below: Vec<usize>,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Matched<'a> {
    Route(&'a Arc<Route>),
    /// The path exists, for these methods only (the value of `Allow`).
    OtherMethods(String),
    Nothing,
}

/// Two routes that would match the same requests, as indices into the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError {
    pub first: usize,
    pub second: usize,
}

impl RouteTable {
    /// Builds the table; every route that ties with an earlier one is reported.
    pub fn new(routes: Vec<Arc<Route>>) -> Result<Self, Vec<TableError>> {
        let mut table = Self { routes, ..Self::default() };
        let mut errors = Vec::new();
        for (index, route) in table.routes.iter().enumerate() {
            let root = match &route.host {
                Some(host) => table.by_host.entry(host.clone()).or_default(),
                None => &mut table.any_host,
            };
            let node = root.descend(route.path.base());
            let list = if route.path.is_prefix() { &mut node.below } else { &mut node.here };
            if let Some(&first) = list.iter().find(|&&other| ties(&table.routes[other], route)) {
                errors.push(TableError { first, second: index });
            }
            list.push(index);
        }
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    /// Finds the route. `host` is the request's host without port; `path` is canonical.
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Matched<'_> {
        let named = host
            .filter(|_| !self.by_host.is_empty())
            .and_then(|host| self.by_host.get(host.trim_end_matches('.').to_ascii_lowercase().as_str()));
        let mut lookup = Lookup { routes: &self.routes, method, passed: Vec::new() };
        for root in [named, Some(&self.any_host)].into_iter().flatten() {
            if let Some(index) = lookup.search(root, path.strip_prefix('/')) {
                return Matched::Route(&self.routes[index]);
            }
        }
        if lookup.passed.is_empty() { Matched::Nothing } else { Matched::OtherMethods(lookup.allow()) }
    }

    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

/// Whether two routes with the same host and path shape want the same requests equally much.
fn ties(first: &Route, second: &Route) -> bool {
    match (&first.methods, &second.methods) {
        (Methods::Any, Methods::Any) => true,
        (Methods::Listed(first), Methods::Listed(second)) => first.iter().any(|method| second.contains(method)),
        _ => false,
    }
}

impl Node {
    /// The node of a path pattern (without `/**`), made where it is missing.
    fn descend(&mut self, base: &str) -> &mut Self {
        let mut node = self;
        for segment in base.split('/').skip(1) {
            node = if segment.starts_with('{') {
                node.parameter.get_or_insert_default()
            } else {
                let at = match node.literals.binary_search_by(|(known, _)| known.as_ref().cmp(segment)) {
                    Ok(at) => at,
                    Err(at) => {
                        node.literals.insert(at, (segment.into(), Self::default()));
                        at
                    }
                };
                &mut node.literals[at].1
            };
        }
        node
    }
}

/// One search: the method that is wanted, and the routes that were passed over because of theirs.
struct Lookup<'a> {
    routes: &'a [Arc<Route>],
    method: &'a Method,
    passed: Vec<usize>,
}

impl Lookup<'_> {
    /// `rest` is what follows the slash after this node, or `None` at the end of the path.
    fn search(&mut self, node: &Node, rest: Option<&str>) -> Option<usize> {
        let Some(rest) = rest else {
            return self.choose(&node.here).or_else(|| self.choose(&node.below));
        };
        let (segment, deeper) = match rest.split_once('/') {
            Some((segment, deeper)) => (segment, Some(deeper)),
            None => (rest, None),
        };
        if let Ok(at) = node.literals.binary_search_by(|(known, _)| known.as_ref().cmp(segment))
            && let Some(found) = self.search(&node.literals[at].1, deeper)
        {
            return Some(found);
        }
        if let Some(parameter) = node.parameter.as_deref().filter(|_| !segment.is_empty())
            && let Some(found) = self.search(parameter, deeper)
        {
            return Some(found);
        }
        self.choose(&node.below)
    }

    fn choose(&mut self, candidates: &[usize]) -> Option<usize> {
        let lists = |index: &&usize| matches!(&self.routes[**index].methods, Methods::Listed(list) if list.contains(self.method));
        let any = |index: &&usize| self.routes[**index].methods == Methods::Any;
        let found = candidates.iter().find(lists).or_else(|| candidates.iter().find(any)).copied();
        if found.is_none() {
            self.passed.extend_from_slice(candidates);
        }
        found
    }

    fn allow(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for &index in &self.passed {
            if let Methods::Listed(list) = &self.routes[index].methods {
                names.extend(list.iter().map(Method::as_str));
            }
        }
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

#[cfg(test)]
mod tests;
