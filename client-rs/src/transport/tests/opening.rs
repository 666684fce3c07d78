//! The constructor gives up, or trains alone, when the time to connect is over.

use super::{super::open::open, *};
use crate::{
    config::{OnOutage, SessionConfig},
    error::Error,
};
use autolrs_core::spec::{JobSpec, PolicySpec, WsdOptions};
use autolrs_proto::v1::CreateJobResponse;

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
