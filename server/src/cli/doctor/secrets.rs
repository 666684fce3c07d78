//! Certificates and tokens: whether the server can use what the configuration names.

use super::Finding;
use crate::{auth::Tokens, config::Security};
use std::time::SystemTime;

/// Days before its end at which a certificate should have been renewed.
const SOON: i64 = 14;

/// Whether the certificate, its key and the authorities of clients fit together; none: no TLS.
pub(super) fn certificate(security: &Security) -> Option<Finding> {
    let tls = security.tls.as_ref()?;
    let expires = tls.expires().unwrap_or(i64::MAX);
    let left = expires.saturating_sub(seconds(SystemTime::now())) / 86_400;
    Some(match tls.read() {
        Ok(_) if left < SOON => Finding::warn(
            "certificate",
            match left {
                ..0 => format!("{} is no longer valid", tls.cert.display()),
                _ => format!("{} is valid for {left} more days", tls.cert.display()),
            },
            "renew it: the server reads it anew when the file changes",
        ),
        Ok(_) => Finding::ok("certificate", format!("{} and its key can be used", tls.cert.display())),
        Err(error) => Finding::fail(
            "certificate",
            error.to_string(),
            "give tls_cert, tls_key and tls_client_ca PEM files that the server's user can read; tls_key has to be the \
             key of tls_cert",
        ),
    })
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether somebody can get in; none: no tokens.
pub(super) fn tokens(security: &Security) -> Option<Finding> {
    let path = security.tokens.as_ref()?;
    let make = "make one with `autolrs token create`";
    Some(match Tokens::read(path) {
        Err(error) => Finding::fail(
            "tokens",
            error.to_string(),
            "give the server's user the file, or make it with `autolrs token create`",
        ),
        Ok(tokens) => {
            let now = SystemTime::now();
            let (all, valid) =
                (tokens.iter().count(), tokens.iter().filter(|token| !token.is_expired(now)).count());
            let what = format!("{valid} of {all} tokens in {} are valid", path.display());
            if valid == 0 { Finding::warn("tokens", what, make) } else { Finding::ok("tokens", what) }
        }
    })
}
