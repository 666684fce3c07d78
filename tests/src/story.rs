//! A job's whole life as an undisturbed run had it: every report, and the answer to it. Any server that holds the job
//! at some point of its life must give the same answers from there on.

use crate::{
    server::Server,
    trainer::{Model, advance, open},
};
use autolrs_proto::v1::{
    Ack, Directive, GetJobRequest, Job, JobSpec, LrPiece, PaperPolicy, Phase, ReplayPolicy, Report,
    ScanPolicy, StagedPolicy, directive::Action, job_spec::Policy, lr_piece::Shape,
};
use prost::{DecodeError, Message};

/// See the module.
#[derive(Debug, Clone)]
pub struct Story {
    /// What was asked for.
    pub spec: JobSpec,
    /// The directive that the first session began with.
    pub first: Directive,
    /// Every report that ended a directive or reached a rung, and its answer.
    pub exchanges: Vec<(Report, Ack)>,
}

impl Story {
    /// Trains a job of this name to its end.
    pub async fn record(server: &Server, name: &str, spec: JobSpec) -> Self {
        let opened = open(server, name, spec.clone()).await.expect("a new job");
        let first = opened.directive.expect("the first directive");
        let (mut model, mut directive, mut done) = (Model::default(), first.clone(), 0);
        let mut exchanges = Vec::new();
        while let Some(report) = model.carry_on(name, opened.session, &directive, done) {
            let ack = advance(server, report.clone()).await.expect("an answer");
            done = ack.go_on.unwrap_or(0) as usize;
            directive = ack.directive.clone().unwrap_or(directive);
            exchanges.push((report, ack));
        }
        Self { spec, first, exchanges }
    }

    /// Records the life of a job of this policy on a server of its own.
    pub async fn of(policy: Policy) -> Self {
        Self::record(&Server::start().await, "story", crate::trainer::spec(1500, policy)).await
    }

    /// How many exchanges it has.
    pub fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether nothing was ever reported.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// How many exchanges come before the first directive of a phase is under way.
    pub fn before(&self, phase: Phase) -> usize {
        let under_way = |number: usize| match number.checked_sub(1) {
            None => Some(&self.first),
            Some(last) => self.exchanges[last].1.directive.as_ref(),
        };
        let is_of = |number: &usize| {
            let action = under_way(*number).and_then(|directive| directive.action.as_ref());
            matches!(action, Some(Action::Run(run)) if run.phase() == phase)
        };
        (0..self.len()).find(is_of).expect("the story has the phase")
    }

    /// Some number of exchanges in the middle, the last of which ended a directive.
    pub fn middle(&self) -> usize {
        let ended = |number: &usize| self.exchanges[number - 1].1.directive.is_some();
        (1..=self.len() / 2).rev().find(ended).expect("a directive that ended")
    }

    /// What is left of it from exchange number `start` on, as bytes.
    pub fn rest_to_bytes(&self, start: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (report, ack) in &self.exchanges[start..] {
            bytes.extend(report.encode_length_delimited_to_vec());
            bytes.extend(ack.encode_length_delimited_to_vec());
        }
        bytes
    }

    /// The inverse of [`Story::rest_to_bytes`]: the exchanges that are left.
    ///
    /// # Errors
    /// If the bytes are others.
    pub fn rest_from_bytes(mut bytes: &[u8]) -> Result<Vec<(Report, Ack)>, DecodeError> {
        let mut exchanges = Vec::new();
        while !bytes.is_empty() {
            let report = Report::decode_length_delimited(&mut bytes)?;
            exchanges.push((report, Ack::decode_length_delimited(&mut bytes)?));
        }
        Ok(exchanges)
    }

    /// Makes the job under this name and lives it up to exchange number `end`.
    pub async fn begin(&self, server: &Server, name: &str, end: usize) {
        let opened = open(server, name, self.spec.clone()).await.expect("a new job");
        assert_eq!(opened.directive.as_ref(), Some(&self.first));
        self.go_on(server, name, 0, end).await;
    }

    /// Lives it from exchange number `start` up to `end`: the answers must be the ones that were recorded.
    pub async fn go_on(&self, server: &Server, name: &str, start: usize, end: usize) {
        for number in start..end {
            let (report, expected) = &self.exchanges[number];
            let report = Report { job: name.to_owned(), ..report.clone() };
            let ack = advance(server, report).await.expect("an answer");
            assert_eq!(&ack, expected, "{name}, exchange {number}");
        }
    }

    /// Lives it from exchange number `start` to its end.
    pub async fn finish(&self, server: &Server, name: &str, start: usize) {
        self.go_on(server, name, start, self.len()).await;
    }
}

/// Jobs at every kind of place: name, story, and how far it is to be lived.
pub async fn everywhere() -> Vec<(&'static str, Story, usize)> {
    let scan = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let paper =
        PaperPolicy { tau: Some(100), tau_max: Some(400), candidates: Some(4), ..PaperPolicy::default() };
    let paper = Story::of(Policy::Paper(paper)).await;
    let staged = StagedPolicy { tau: Some(100), trial_fraction: Some(0.2), ..StagedPolicy::default() };
    let staged = Story::of(Policy::Staged(staged)).await;
    let piece = |steps, shape: Shape, start, end| LrPiece {
        steps,
        shape: shape.into(),
        start,
        end,
        of: steps,
        ..LrPiece::default()
    };
    let pieces = vec![piece(700, Shape::Constant, 0.1, 0.1), piece(800, Shape::Cosine, 0.1, 0.01)];
    let replay = Story::of(Policy::Replay(ReplayPolicy { pieces })).await;
    vec![
        ("created", scan.clone(), 0),
        ("searching", scan.clone(), 3),
        ("stable", scan.clone(), scan.before(Phase::Stable)),
        ("cooling", scan.clone(), scan.before(Phase::Cooldown)),
        ("finished", scan.clone(), scan.len()),
        ("paper", paper.clone(), paper.middle()),
        ("staged", staged.clone(), staged.middle()),
        ("replay", replay.clone(), replay.middle()),
    ]
}

/// A job as it stands.
pub async fn job(server: &Server, name: &str) -> Job {
    let request = GetJobRequest { name: name.to_owned() };
    server.jobs().get_job(request).await.expect("a job").into_inner().job.expect("it is set")
}
