//! Who asks, and what they may: bearer tokens, tenants and roles. Everything behind the `Guard` finds the [`Identity`] of
//! its caller among the extensions of the request; the jobs know nothing of it.

pub mod file;
mod guard;
mod identity;
pub mod roles;
pub mod token;

pub use file::{Record, TokenError, Tokens};
pub(crate) use guard::Guard;
pub use identity::{By, Identity};
