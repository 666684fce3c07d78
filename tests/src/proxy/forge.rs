//! Messages that are changed on their way: for a server that breaks a promise on purpose.

use bytes::Bytes;
use prost::Message;

/// Which message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Request,
    /// The server's.
    Reply,
}

type Change = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What becomes of the messages of one side of one method.
pub struct Forge {
    method: &'static str,
    side: Side,
    change: Change,
}

impl Forge {
    /// Changes every message of this kind.
    pub fn new<M: Message + Default>(
        method: &'static str,
        side: Side,
        change: impl Fn(&mut M) + Send + Sync + 'static,
    ) -> Self {
        let change = move |bytes: &[u8]| {
            let mut message = M::decode(bytes).expect("a message of the method");
            change(&mut message);
            message.encode_to_vec()
        };
        Self { method, side, change: Box::new(change) }
    }

    /// The body of a unary call with its message changed: a flag, the length, the message. An empty one is that of an
    /// error.
    pub(super) fn of(&self, method: &str, side: Side, body: &Bytes) -> Bytes {
        if (method, side) != (self.method, self.side) || body.len() < 5 {
            return body.clone();
        }
        let message = (self.change)(&body[5..]);
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        [&body[..1], &length, &message].concat().into()
    }
}
