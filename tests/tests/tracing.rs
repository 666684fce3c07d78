//! What a subscriber of the user sees of a session that meets an outage: spans and a few events, none per step.

use autolrs_client::{
    Error, Handle, InMemory, JobSpec, PolicySpec, SessionConfig, Slot, Trainable, WsdOptions, blocking,
};
use autolrs_tests::server::Server;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{
    Event, Id, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

type Step = fn(&mut f64, u64, f64) -> f64;
type Fields = BTreeMap<&'static str, String>;

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// A span, and the name of the one around it.
struct Span {
    name: &'static str,
    within: Option<u64>,
    fields: Fields,
    holders: u32,
}

/// Everything that this crate tells.
#[derive(Default)]
struct Told {
    spans: BTreeMap<u64, Span>,
    /// (the span around it, message).
    events: Vec<(u64, String)>,
}

#[derive(Clone, Default)]
struct Capture {
    told: Arc<Mutex<Told>>,
    ids: Arc<AtomicU64>,
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("autolrs_client")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        span.record(&mut Reader(&mut fields));
        let (name, within) = (span.metadata().name(), span.parent().map(Id::into_u64));
        self.told.lock().unwrap().spans.insert(id, Span { name, within, fields, holders: 1 });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, record: &Record<'_>) {
        let mut told = self.told.lock().unwrap();
        record.record(&mut Reader(&mut told.spans.get_mut(&id.into_u64()).unwrap().fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        let within = event.parent().map_or(0, Id::into_u64);
        self.told.lock().unwrap().events.push((within, fields["message"].clone()));
    }

    fn try_close(&self, id: Id) -> bool {
        let mut told = self.told.lock().unwrap();
        let span = told.spans.get_mut(&id.into_u64()).unwrap();
        span.holders -= 1;
        span.holders == 0
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.told.lock().unwrap().spans.get_mut(&id.into_u64()).unwrap().holders += 1;
        id.clone()
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A loop whose server is killed after a step, and comes back after a later one.
struct Loop {
    inner: InMemory<f64, Step>,
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Trainable for Loop {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        self.inner.step(lr)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.save_slot(slot)
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.restore_slot(slot)
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.drop_slot(slot)
    }

    fn after_step(&mut self, session: &Handle) -> Result<(), Error> {
        match session.snapshot().total_step {
            50 => self.server.kill(),
            // By then the end of a directive was met with silence.
            700 => self.runtime.block_on(self.server.up()),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_session_is_a_span_with_one_for_each_directive() {
    let capture = Capture::default();
    let told = capture.told.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let spec = JobSpec {
        total_steps: Some(1000),
        fallback_lr: Some(0.05),
        policy: Some(PolicySpec::Wsd(WsdOptions::default())),
        ..JobSpec::default()
    };
    let config = SessionConfig {
        server: server.url(),
        token: None,
        decision_timeout: Duration::from_millis(300),
        ..SessionConfig::new("traced", spec)
    };
    // A subscriber of this thread alone: the session's own thread tells it too.
    tracing::subscriber::with_default(capture, || {
        let session = blocking::Session::open(config).unwrap();
        let inner = InMemory::new(1.0, (|weight, _, _| *weight) as Step);
        let mut training = Loop { inner, server, runtime };
        session.train(&mut training).unwrap();
        session.close(Duration::from_secs(20)).unwrap();
    });
    let told = told.lock().unwrap();
    let named = |name: &str| told.spans.iter().filter(move |(_, span)| span.name == name).collect::<Vec<_>>();
    let [(session, span)] = named("session")[..] else { panic!("one session") };
    assert_eq!((span.fields["job"].as_str(), span.fields["session"].as_str()), ("\"traced\"", "1"));
    let directives = named("directive");
    assert!(directives.len() > 2 && directives.len() < 20, "{}", directives.len());
    assert!(directives.iter().all(|(_, span)| span.within == Some(*session)));
    let (_, first) = directives[0];
    assert_eq!((first.fields["seq"].as_str(), first.fields["phase"].as_str()), ("1", "\"stable\""));
    assert!(
        first.fields.contains_key("lr")
            && first.fields["stage"] == "0"
            && !first.fields.contains_key("trial")
    );
    assert_eq!(directives.last().unwrap().1.fields["phase"], "\"done\"");
    assert!(told.spans.values().all(|span| span.holders == 0), "every span ends with its session");
    let events: Vec<&str> = told.events.iter().map(|(_, message)| message.as_str()).collect();
    assert!(events[0].starts_with("outage"), "{events:?}");
    assert!(events[1].starts_with("fallback"), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("reconnect")), "{events:?}");
    assert!(events.len() < 10, "none per step: {events:?}");
    assert!(told.events.iter().all(|(within, _)| told.spans[within].name == "directive"));
}
