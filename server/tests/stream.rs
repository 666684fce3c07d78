//! `Train` streams over the wire.

mod harness;

use autolrs_proto::v1::{
    Ack, CancelJobRequest, GetJobRequest, JobState, OpenSessionResponse, Report, StoppedBecause,
    TrainRequest, TrainResponse, stopped_because::Cause,
};
use harness::{STEPS, Server, losses};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// A trainer's end.
struct Stream {
    reports: mpsc::Sender<TrainRequest>,
    answers: Streaming<TrainResponse>,
}

impl Stream {
    async fn begin(server: &Server) -> Self {
        let (reports, receiver) = mpsc::channel(4);
        let answers = server.trainer().train(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { reports, answers }
    }

    async fn report(&mut self, report: Report) -> Result<Ack, Status> {
        self.reports.send(TrainRequest { report: Some(report) }).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Ack, Status> {
        Ok(self.answers.message().await?.unwrap().ack.unwrap())
    }
}

async fn streaming(server: &Server) -> (Stream, OpenSessionResponse) {
    server.create("a").await;
    let opened = server.open("a").await;
    let mut stream = Stream::begin(server).await;
    assert_eq!(stream.report(losses("a", &opened, 40)).await.unwrap().received_through, 40);
    (stream, opened)
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn an_operators_wish_is_pushed() {
    let server = Server::start(&[]).await;
    let (mut stream, opened) = streaming(&server).await;
    let cancel = CancelJobRequest { name: "a".into(), request_id: "r".into() };
    let job = server.jobs().cancel_job(cancel).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Training, "it takes effect at the trainer's next switch point");
    let number = stream.answer().await.unwrap().interrupt.unwrap();
    let stopped = Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) });
    let end = Report { finished: true, stopped_because: stopped, ..losses("a", &opened, 40) };
    let ack = stream.report(end).await.unwrap();
    assert!(ack.directive.is_some() && ack.interrupt.is_none());
    let request = GetJobRequest { name: "a".into() };
    let job = server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Cancelled);
}

#[tokio::test]
async fn a_newer_session_ends_the_stream() {
    let server = Server::start(&[]).await;
    server.create("a").await;
    let opened = server.open("a").await;
    let mut stream = Stream::begin(&server).await;
    stream.report(losses("a", &opened, 0)).await.unwrap();
    server.open("a").await;
    let status = stream.answer().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "FENCED"));
}

#[tokio::test]
async fn the_first_refusal_ends_the_stream() {
    let server = Server::start(&[]).await;
    let (mut stream, opened) = streaming(&server).await;
    let status = stream.report(losses("a", &opened, STEPS + 1)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn a_report_that_is_too_large_is_told() {
    let server = Server::start(&["--max-message", "64KiB"]).await;
    let (mut stream, opened) = streaming(&server).await;
    let large = Report { train_losses: vec![1.0; 10_000], ..losses("a", &opened, 0) };
    assert_eq!(stream.report(large).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_draining_server_says_so_and_does_not_wait() {
    let server = Server::start(&[]).await;
    let (mut stream, _) = streaming(&server).await;
    server.terminate();
    let status = stream.answer().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "DRAINING"));
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn streams_are_limited() {
    let server = Server::start(&["--max-trainers", "1"]).await;
    let (_stream, _) = streaming(&server).await;
    let (_reports, receiver) = mpsc::channel(1);
    let status = server.trainer().train(ReceiverStream::new(receiver)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
}
