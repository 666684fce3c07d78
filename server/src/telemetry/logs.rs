//! Log lines on stderr, as text or as JSON.

use super::decisions;
use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, reload::Handle, util::SubscriberInitExt,
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

/// Starts logging. Panics of tasks become log lines.
///
/// # Errors
/// A sentence, if the process logs already.
pub fn start(config: &LogConfig) -> Result<Filter, String> {
    decisions::slow_after(config.slow_decision);
    let filter = filter(&config.filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = fmt::layer().with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => registry.with(stderr.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => {
            registry.with(stderr.json().flatten_event(true).with_current_span(true)).try_init()
        }
    };
    started.map_err(|e| e.to_string())?;
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
