//! The constructor gives up, or trains alone, when the time to connect is over.

use super::{super::open::open, *};
use crate::{
    config::{OnOutage, SessionConfig},
    error::Error,
};
use autolrs_core::spec::{JobSpec, PolicySpec, WsdOptions};
use autolrs_proto::v1::CreateJobResponse;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

fn config(on_outage: OnOutage) -> SessionConfig {
    let spec = JobSpec {
        total_steps: Some(100),
        lr_min: Some(1e-3),
        lr_max: Some(1.0),
        fallback_lr: Some(0.1),
        policy: Some(PolicySpec::Wsd(WsdOptions::default())),
        ..JobSpec::default()
    };
    SessionConfig {
        on_outage,
        token: None,
        connect_timeout: CONNECT_TIMEOUT,
        ..SessionConfig::new("job", spec)
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_server_it_takes_the_connect_time_out_and_no_longer() {
    for (what, network) in Network::all_silent() {
        let began = Instant::now();
        let error = open(&config(OnOutage::Auto), |config| network.clone().link(config)).await.err().unwrap();
        assert!(matches!(error, Error::ServerUnavailable { .. }), "{what}: {error}");
        assert_waited(began, CONNECT_TIMEOUT, what);
        let began = Instant::now();
        let opened = open(&config(OnOutage::Fallback), |config| network.link(config)).await;
        let (machine, link) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((machine.lr(), machine.steps(), link.is_none()), (0.1, 100, true), "{what}");
        assert_waited(began, CONNECT_TIMEOUT, what);
    }
}

/// The calls of an attempt share the time that is left.
#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_between_two_calls_gets_no_more_time() {
    let slow = Answer::after;
    let network = Network::answers(move |method| match method {
        "CreateJob" => slow(CONNECT_TIMEOUT * 9 / 10, &CreateJobResponse::default()),
        _ => Answer::Never,
    });
    let began = Instant::now();
    let error = open(&config(OnOutage::Auto), |config| network.link(config)).await.err().unwrap();
    assert!(matches!(error, Error::ServerUnavailable { .. }), "{error}");
    assert_waited(began, CONNECT_TIMEOUT, "the second call");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_is_given_it_at_the_start_too() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let network = Network::answers(move |_| {
        counted.fetch_add(1, SeqCst);
        Answer::Later(CONNECT_TIMEOUT / 4)
    });
    let began = Instant::now();
    let error = open(&config(OnOutage::Auto), |config| network.link(config)).await.err().unwrap();
    assert!(matches!(error, Error::ServerUnavailable { .. }), "{error}");
    assert_waited(began, CONNECT_TIMEOUT, "asked for time");
    assert!((2..=4).contains(&calls.load(SeqCst)), "{calls:?}");
}
