//! A bearer token: `alrs_<id>_<secret>`. The id names it in files and logs; the secret is 256 bits of the system's
//! randomness, so a plain hash of it can't be guessed back, and only the hash is kept.

use data_encoding::HEXLOWER;
use rand::{TryRng, rngs::SysRng};
use ring::digest::{SHA256, digest};
use std::{fmt, sync::Arc};
use subtle::ConstantTimeEq;

/// So that programs that look for leaked secrets find ours.
const PREFIX: &str = "alrs_";
/// Bytes of an id, which is written with two digits for each.
const ID: usize = 8;
/// Bytes of a secret.
const SECRET: usize = 32;

/// Names a token; no secret. 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    /// An id that is written as ours are.
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, ID).then(|| Self(text.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of a secret: its SHA-256.
#[derive(Debug, Clone, Copy)]
pub struct Digest([u8; SECRET]);

impl Digest {
    /// 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As it is written.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl PartialEq for Digest {
    /// In a time that does not depend on where they differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

/// A token with its secret. It can be shown once, by [`Token::expose`]; no other way of printing has the secret.
pub struct Token {
    id: TokenId,
    secret: String,
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn mint() -> Result<Self, rand::rngs::SysError> {
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        SysRng.try_fill_bytes(&mut id)?;
        SysRng.try_fill_bytes(&mut secret)?;
        Ok(Self { id: TokenId(HEXLOWER.encode(&id).into()), secret: HEXLOWER.encode(&secret) })
    }

    /// Reads what a caller has sent.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = TokenId::parse(id)?;
        is_hex(secret, SECRET).then(|| Self { id, secret: secret.into() })
    }

    /// Its name.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// What is kept of its secret.
    pub fn digest(&self) -> Digest {
        let mut bytes = [0; SECRET];
        bytes.copy_from_slice(digest(&SHA256, self.secret.as_bytes()).as_ref());
        Digest(bytes)
    }

    /// The whole token, secret included, for the one who will use it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_(hidden)", self.id)
    }
}

/// Whether a text is so many bytes in small hexadecimal digits.
fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_with_its_id_and_its_digest() {
        let token = Token::mint().unwrap();
        let back = Token::parse(&token.expose()).unwrap();
        assert_eq!((back.id(), back.digest()), (token.id(), token.digest()));
        assert_eq!(Digest::parse(&token.digest().to_hex()), Some(token.digest()));
        assert_ne!(Token::mint().unwrap().expose(), token.expose());
    }

    #[test]
    fn the_digest_is_that_of_the_secret_as_it_is_written() {
        let token = Token::parse(&format!("alrs_0011223344556677_{}", "0".repeat(64))).unwrap();
        // printf %064d 0 | sha256sum
        let expected = "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55";
        assert_eq!(token.digest().to_hex(), expected);
    }

    #[test]
    fn what_is_no_token_is_none() {
        let token = Token::mint().unwrap().expose();
        let upper = token.to_uppercase();
        let cut = &token[..token.len() - 1];
        let longer = format!("{token}0");
        for text in ["", "alrs_", "alrs__", &token[1..], cut, &longer, &upper, &token.replace('_', "-")] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let token = Token::mint().unwrap();
        let shown = format!("{token:?}");
        assert!(shown.contains(token.id().as_str()) && !shown.contains(&token.secret), "{shown}");
    }
}
