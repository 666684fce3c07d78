//! The way in: a layer around the services that have jobs in them. It finds out who asks and whether they may, and puts
//! the identity beside the request.

use super::{Tokens, identity::Identity, roles::Rule, token::Token};
use crate::{
    audit::Audit,
    error::{Error, Unproven},
    live::Live,
    quotas::Quotas,
    rpc::status::status,
};
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::either::Either;
use tonic::Status;
use tower::Service;
use tracing::Span;

/// Knows who may do what.
#[derive(Clone)]
pub(crate) struct Guard {
    /// None: the server asks for no token.
    tokens: Option<Arc<Live<Tokens>>>,
    audit: Audit,
    quotas: Quotas,
}

impl Guard {
    pub(crate) fn new(tokens: Option<Arc<Live<Tokens>>>, audit: Audit, quotas: Quotas) -> Self {
        Self { tokens, audit, quotas }
    }

    /// A service that answers only who may ask.
    pub(crate) fn around<S>(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }

    /// Who asks, if they may, and not too often.
    fn admit(&self, rule: &'static Rule, headers: &HeaderMap) -> Result<Identity, Error> {
        let identity = self.identify(rule, headers)?;
        self.quotas.request(identity.tenant())?;
        Ok(identity)
    }

    fn identify(&self, rule: &'static Rule, headers: &HeaderMap) -> Result<Identity, Error> {
        let Some(tokens) = &self.tokens else { return Ok(Identity::anyone()) };
        let header = headers.get(AUTHORIZATION).ok_or(Error::Unauthenticated(Unproven::NoToken))?;
        let token = header.to_str().ok().and_then(bearer).and_then(Token::parse);
        let token = token.ok_or(Error::Unauthenticated(Unproven::Unknown))?;
        // A name that anybody may claim; said of requests that were refused too.
        Span::current().record("token", token.id().as_str());
        let identity = Identity::prove(&token, rule, tokens.subscribe()).inspect_err(|error| {
            // Of those who are known: others could fill the disk.
            if matches!(
                error,
                Error::RoleTooLow { .. } | Error::NoTenant { .. } | Error::NotTheServers { .. }
            ) {
                let tokens = tokens.current();
                let tenant = tokens.get(token.id()).map_or("", |record| &record.tenant);
                self.audit.deny(token.id(), tenant, rule.method, &error.to_string());
            }
        })?;
        Span::current().record("tenant", identity.tenant());
        Ok(identity)
    }
}

/// The token of an `authorization` header, whose scheme may be written in any case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// See [`Guard::around`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let refused = match Rule::of_path(request.uri().path()) {
            // Nothing gets in that the table does not know.
            None => Status::unimplemented("this server has no such method"),
            Some(rule) => match self.guard.admit(rule, request.headers()) {
                Ok(identity) => {
                    // What is not there can't be logged.
                    request.headers_mut().remove(AUTHORIZATION);
                    request.extensions_mut().insert(identity);
                    return Either::Right(self.inner.call(request));
                }
                Err(error) => {
                    tracing::info!(%error, "refused");
                    status(&error)
                }
            },
        };
        Either::Left(ready(Ok(refused.into_http())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer("Bearer x"), Some("x"));
        assert_eq!(bearer("bearer  x"), Some("x"));
        for header in ["x", "Basic x", "Bearerx"] {
            assert_eq!(bearer(header), None, "{header}");
        }
    }
}
