//! One request before its handler takes it, and what the handler has for it.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};

use crate::answer::problem::Problem;
use crate::engine::Engine;
use crate::http::conn::exchange::Exchange;
use crate::http::conn::response_body::ResponseBody;
use crate::http::context::Context;
use crate::policy::Policy;

/// A request that passed its checks, with its connection and its client's address.
pub struct Call<'c> {
    /// What the thread's requests work with.
    pub context: &'c Context,
    /// The connection it came on.
    pub exchange: &'c Rc<Exchange>,
    /// The policy at the time of its arrival.
    pub policy: &'c Policy,
    /// The request.
    pub request: Request<Incoming>,
    /// The client's address, if known.
    pub address: Option<IpAddr>,
}

/// The answer of a handler, or the problem that is the answer.
pub type Handled = Result<Response<ResponseBody>, Problem>;

impl<'c> Call<'c> {
    /// What all threads share.
    #[must_use]
    pub fn engine(&self) -> &'c Arc<Engine> {
        &self.context.engine
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The request's path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The request's query.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }
}
