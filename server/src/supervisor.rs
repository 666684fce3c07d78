//! What systemd is told (`Type=notify`): that we are ready, how we are, that we live. Where nobody listens, nothing happens.

use sd_notify::NotifyState;

/// We listen. The store may be away even so: the status says it.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We are about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// The configuration is read again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock can't be read"),
    }
}

/// For `systemctl status`.
pub(crate) fn status(text: &str) {
    // A message ends at the end of its line.
    tell(&[NotifyState::Status(&text.replace('\n', " "))]);
}

/// Feeds the watchdog, where there is one.
pub(crate) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
