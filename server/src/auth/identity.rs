//! Who a request is from, once that is proven.

use super::{
    file::{Record, SERVER, Tokens},
    roles::{Of, Rule},
    token::{Token, TokenId},
};
use crate::error::{Error, Unproven};
use http::Extensions;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Owner of every job of a server that asks for no token.
const DEFAULT_TENANT: &str = "default";
/// How often the time of day is looked at for a token that will expire: it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// Who a request is from, and that it may be made.
#[derive(Debug, Clone)]
pub struct Identity {
    tenant: Arc<str>,
    proof: Option<Proof>,
}

/// What an identity rests on.
#[derive(Debug, Clone)]
struct Proof {
    record: Record,
    rule: &'static Rule,
    /// The tokens as they change.
    tokens: watch::Receiver<Arc<Tokens>>,
}

/// Who asked for a change, for the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct By {
    /// The token; none: the server asks for none.
    pub token: Option<TokenId>,
    /// The caller's own identifier of the request; may be empty.
    pub request_id: String,
}

impl Identity {
    /// Everyone, on a server that asks for no token.
    pub fn anyone() -> Self {
        Self { tenant: DEFAULT_TENANT.into(), proof: None }
    }

    /// Whoever knows the token's secret, if what they ask for is allowed.
    pub(super) fn prove(
        token: &Token,
        rule: &'static Rule,
        tokens: watch::Receiver<Arc<Tokens>>,
    ) -> Result<Self, Error> {
        let record = tokens.borrow().get(token.id()).cloned();
        let record = record.filter(|record| record.sha256 == token.digest());
        let record = record.ok_or(Error::Unauthenticated(Unproven::Unknown))?;
        may(&record, rule)?;
        Ok(Self { tenant: record.tenant.as_str().into(), proof: Some(Proof { record, rule, tokens }) })
    }

    /// What the guard has put beside a request.
    ///
    /// # Errors
    /// If there was no guard: a defect.
    pub fn of(extensions: &Extensions) -> Result<Self, Error> {
        let missing = || Error::Defect { detail: "a request came in past the guard".into() };
        extensions.get().cloned().ok_or_else(missing)
    }

    /// Whose jobs the request is about.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The token's name.
    pub fn token(&self) -> Option<&TokenId> {
        self.proof.as_ref().map(|proof| &proof.record.id)
    }

    /// For the audit log.
    pub fn by(&self, request_id: &str) -> By {
        By { token: self.token().cloned(), request_id: request_id.into() }
    }

    /// Until the token is revoked or expires, or may no longer do this: streams end then. The tokens are looked up
    /// once more before.
    pub async fn lapsed(&mut self) -> Error {
        let Some(Proof { record, rule, tokens }) = &mut self.proof else {
            return std::future::pending().await;
        };
        loop {
            let now = tokens.borrow_and_update().get(&record.id).cloned();
            let same = now.filter(|now| now.sha256 == record.sha256 && now.tenant == record.tenant);
            let Some(now) = same else { return Error::Unauthenticated(Unproven::Unknown) };
            if let Err(error) = may(&now, rule) {
                return error;
            }
            let expires = now.expires.map(|expires| expires.duration_since(SystemTime::now()));
            let wait = expires.map_or(LOOK, |left| left.unwrap_or_default().min(LOOK));
            tokio::select! {
                changed = tokens.changed() => if changed.is_err() { return std::future::pending().await },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// Whether a token may do what a rule is about, now.
fn may(record: &Record, rule: &Rule) -> Result<(), Error> {
    if record.is_expired(SystemTime::now()) {
        return Err(Error::Unauthenticated(Unproven::Expired));
    }
    let (rpc, needed, has) = (rule.method, rule.role, record.role);
    if has < needed {
        return Err(Error::RoleTooLow { rpc, needed, has });
    }
    match rule.of {
        Of::Tenant if record.tenant == SERVER => Err(Error::NoTenant { rpc }),
        Of::Server if record.tenant != SERVER => Err(Error::NotTheServers { rpc }),
        Of::Tenant | Of::Server => Ok(()),
    }
}
