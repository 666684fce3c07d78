//! A body that breaks off.

use super::Cut;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::Notify;

/// Polls between the bytes and the break, so that the connection's own task can send them first.
const BREATHS: u8 = 16;

/// Some bytes, and then a break.
pub(super) struct Torn {
    bytes: Option<Bytes>,
    breaths: u8,
    cut: Cut,
    hang_up: Arc<Notify>,
}

impl Torn {
    pub(super) fn new(bytes: Bytes, cut: Cut, hang_up: Arc<Notify>) -> Self {
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), breaths: BREATHS, cut, hang_up }
    }
}

impl Body for Torn {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.breaths > 0 {
            self.breaths -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.cut {
            Cut::Reset => Poll::Ready(Some(Err(io::Error::other("cut on purpose")))),
            Cut::Short => Poll::Ready(None),
            Cut::HangUp => {
                self.hang_up.notify_one();
                Poll::Pending
            }
        }
    }
}
