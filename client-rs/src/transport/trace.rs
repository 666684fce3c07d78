//! What the user's `tracing` subscriber is told: a span for the session, one in it for each directive, and events when
//! something is out of the ordinary. Nothing is told per step, and without a subscriber nothing at all.

use crate::{error::Error, session::Machine};
use autolrs_core::directive::Phase;
use std::thread;
use tracing::{Dispatch, Span, dispatcher, field::Empty, info, info_span, subscriber::NoSubscriber, warn};

/// The spans in force.
pub(crate) struct Trace {
    session: Span,
    directive: Span,
    /// [`Machine::entered`] of `directive`.
    entered: u64,
    /// The server has not answered since.
    outage: bool,
}

impl Trace {
    /// A session that was opened in `session`, a span of [`session_span`].
    pub(crate) fn new(session: Span, machine: &Machine) -> Self {
        session.record("session", machine.session());
        let directive = directive_span(&session, machine);
        Self { session, directive, entered: machine.entered(), outage: false }
    }

    /// The span of the directive in force.
    pub(crate) fn directive(&self) -> &Span {
        &self.directive
    }

    /// Another directive may be in force.
    pub(crate) fn follow(&mut self, machine: &Machine) {
        if self.entered != machine.entered() {
            self.entered = machine.entered();
            self.directive = directive_span(&self.session, machine);
        }
    }

    /// A call was not answered.
    pub(crate) fn outage(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.outage, true) {
            warn!(parent: &self.directive, %error, "outage: the server does not answer");
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self) {
        if std::mem::replace(&mut self.outage, false) {
            info!(parent: &self.directive, "reconnect: the server answers again");
        }
    }

    /// A report was refused for good.
    pub(crate) fn refused(&self, error: &Error) {
        warn!(parent: &self.directive, %error, "refused: the server does not take the report");
    }

    /// No answer came in time, and the fallback is in force.
    pub(crate) fn fallback(&mut self, machine: &Machine) {
        self.follow(machine);
        warn!(parent: &self.directive, "fallback: no answer came in time");
    }
}

/// The span of a session that is to be opened, in the caller's own.
pub(crate) fn session_span(job: &str) -> Span {
    info_span!("session", job, session = Empty)
}

fn directive_span(session: &Span, machine: &Machine) -> Span {
    let phase = machine.phase().map_or("done", Phase::name);
    info_span!(
        parent: session,
        "directive",
        seq = machine.seq(),
        phase,
        stage = machine.stage(),
        trial = machine.trial(),
        lr = machine.lr(),
    )
}

/// Runs `work` on a new thread for the subscriber of this one: it may be this thread's own.
pub(super) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    let subscriber = dispatcher::get_default(Dispatch::clone);
    thread::Builder::new().name(name.into()).spawn(move || {
        if subscriber.is::<NoSubscriber>() {
            // One that is installed for the whole program later is used from then on.
            work();
        } else {
            dispatcher::with_default(&subscriber, work);
        }
    })
}
