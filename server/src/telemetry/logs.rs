//! Log lines on stderr, as text or as JSON.

use super::{decisions, otlp::Traces};
use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, reload::Handle, util::SubscriberInitExt,
};

/// The filter of the lines, which may change.
#[derive(Debug, Clone)]
pub struct Filter(Handle<EnvFilter, Registry>);

impl Filter {
    /// From now on these lines are written. A filter that can't be read changes nothing.
    pub fn set(&self, filter: &str) {
        if let Err(error) = self::filter(filter).and_then(|new| self.0.reload(new).map_err(|e| e.to_string()))
        {
            tracing::warn!(error, "the filter of the log was not changed");
        }
    }
}

/// Starts logging, and the spans of `traces`, whatever the filter of the lines says. Panics of tasks become log lines.
///
/// # Errors
/// A sentence, if the process logs already.
pub fn start(config: &LogConfig, traces: Option<&Traces>) -> Result<Filter, String> {
    decisions::slow_after(config.slow_decision);
    let filter = filter(&config.filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let stderr = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => stderr.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => stderr.json().flatten_event(true).with_current_span(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    registry.with(traces.map(Traces::layer)).try_init().map_err(|e| e.to_string())?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect")));
    Ok(Filter(handle))
}

/// A filter of [`EnvFilter`]'s own form.
///
/// # Errors
/// What is wrong with it.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    // EnvFilter cuts other text in the middle of a character, and panics.
    if !text.is_ascii() {
        return Err("a filter is plain ASCII".to_owned());
    }
    EnvFilter::try_new(text).map_err(|e| e.to_string())
}
