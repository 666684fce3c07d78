//! Which trace the requests are part of, as the header `traceparent` of W3C says it to the server.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tracing::Span;

const TRACEPARENT: &str = "traceparent";
#[cfg(feature = "opentelemetry")]
const TRACESTATE: &str = "tracestate";

/// The trace of a session.
#[derive(Debug, Clone)]
pub(crate) struct TraceContext {
    given: Option<MetadataValue<Ascii>>,
    #[cfg_attr(
        not(feature = "opentelemetry"),
        expect(dead_code, reason = "only that feature looks into spans")
    )]
    session: Span,
}

impl TraceContext {
    /// That of the session's span if OpenTelemetry follows it, else the one given. One that is malformed counts for nothing:
    /// no training fails for its trace.
    pub(crate) fn new(given: Option<&str>, session: Span) -> Self {
        let given = given.filter(|text| {
            let well_formed = is_traceparent(text);
            if !well_formed {
                tracing::warn!("the traceparent is malformed: the requests are part of no trace");
            }
            well_formed
        });
        Self { given: given.and_then(|text| text.parse().ok()), session }
    }

    /// Puts it into a request.
    pub(super) fn write(&self, metadata: &mut MetadataMap) {
        #[cfg(feature = "opentelemetry")]
        if self.write_span(metadata) {
            return;
        }
        if let Some(given) = &self.given {
            metadata.insert(TRACEPARENT, given.clone());
        }
    }

    /// Whether the session's span has a context.
    #[cfg(feature = "opentelemetry")]
    fn write_span(&self, metadata: &mut MetadataMap) -> bool {
        use opentelemetry::trace::TraceContextExt as _;
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;

        let context = self.session.context();
        let span = context.span().span_context().clone();
        let flags = span.trace_flags().to_u8();
        let text = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
        let (true, Ok(value)) = (span.is_valid(), text.parse()) else { return false };
        metadata.insert(TRACEPARENT, value);
        let state = span.trace_state().header();
        if let (false, Ok(state)) = (state.is_empty(), state.parse()) {
            metadata.insert(TRACESTATE, state);
        }
        true
    }
}

/// version-trace-parent-flags in lower-case hexadecimal, of which trace and parent are not zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let [version, trace, parent, flags] = parts[..] else { return false };
    [(version, 2), (trace, 32), (parent, 16), (flags, 2)]
        .into_iter()
        .all(|(part, len)| part.len() == len && hex(part))
        && version != "ff"
        && !zero(trace)
        && !zero(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_well_formed_is_sent() {
        let sent = |given: Option<&str>| {
            let mut metadata = MetadataMap::new();
            TraceContext::new(given, Span::none()).write(&mut metadata);
            metadata.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned())
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(sent(Some(good)).as_deref(), Some(good));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
        ] {
            assert_eq!(sent(Some(bad)), None, "{bad:?}");
        }
        assert_eq!(sent(None), None);
    }
}
