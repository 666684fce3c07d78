//! Log lines on stderr, as text or as JSON.

use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. Panics of tasks become log lines.
///
/// # Errors
/// A sentence, if the process logs already.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = filter(&config.filter)?;
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
    Ok(())
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
