//! Trainers that come back, in every case: the real client against the real server. Whatever checkpoint they hold, the
//! steps that stand in the end are those of an undisturbed run, to the bit, or they are told what to do.

use autolrs_client::{
    Error, JobSpec, PaperOptions, Phase, PolicySpec, ScanOptions, Session, SessionConfig, Slot, Snapshot,
    StagedOptions, Status, WsdOptions,
};
use autolrs_proto::v1::{
    self as pb, GetJobRequest, Job, JobState, OpenSessionRequest, OpenSessionResponse, Resume, ScanPolicy,
    SlotOp, job_spec::Policy, slot_op::Kind,
};
use autolrs_tests::{
    server::Server,
    sim::{File, Optimum, SimTrainer},
    trainer::{self, Model, advance},
    training::{bits, carry_out, enter, step},
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn scan() -> PolicySpec {
    PolicySpec::Scan(ScanOptions::default())
}

fn wsd() -> PolicySpec {
    PolicySpec::Wsd(WsdOptions::default())
}

fn staged() -> PolicySpec {
    let options = StagedOptions { tau: Some(60), ..StagedOptions::default() };
    PolicySpec::Staged(StagedOptions { trial_fraction: Some(0.4), ..options })
}

/// Stages of `tau` steps, four candidates each.
fn paper(tau: u64) -> PolicySpec {
    let options = PaperOptions { tau: Some(tau), tau_max: Some(tau), ..PaperOptions::default() };
    PolicySpec::Paper(PaperOptions { candidates: Some(4), trial_fraction: Some(0.2), ..options })
}

fn config(server: &Server, policy: &PolicySpec) -> SessionConfig {
    let spec = JobSpec {
        total_steps: Some(1000),
        lr_min: Some(1e-4),
        lr_max: Some(1.0),
        fallback_lr: Some(0.05),
        max_overhead: matches!(policy, PolicySpec::Staged(_)).then_some(0.6),
        policy: Some(policy.clone()),
        ..JobSpec::default()
    };
    SessionConfig { server: server.url(), token: None, replay: true, ..SessionConfig::new("job", spec) }
}

/// A trainer and its session.
struct Training {
    session: Session,
    trainer: SimTrainer,
}

impl Training {
    async fn start(server: &Server, policy: &PolicySpec) -> Self {
        let session = Session::open(config(server, policy)).await.unwrap();
        Self { session, trainer: SimTrainer::new(Optimum::default()) }
    }

    async fn resume(server: &Server, policy: &PolicySpec, file: &File) -> Self {
        Self::resume_with(
            SessionConfig { resume: Some(file.session.clone()), ..config(server, policy) },
            file,
        )
        .await
    }

    async fn resume_with(config: SessionConfig, file: &File) -> Self {
        let session = Session::open(config).await.unwrap();
        let trainer = SimTrainer::load(file, Optimum::default(), session.snapshot().total_step);
        Self { session, trainer }
    }

    /// Trains until it stands before a step at which this holds.
    async fn until(&mut self, reached: impl Fn(&Snapshot) -> bool) -> &mut Self {
        loop {
            enter(&self.session, &mut self.trainer);
            while self.session.status() != Status::Ended {
                assert_eq!(self.session.done(), None, "the place comes");
                if reached(&self.session.snapshot()) {
                    return self;
                }
                step(&self.session, &mut self.trainer);
            }
            self.session.next().await.unwrap();
        }
    }

    /// Runs this many directives more, if there are as many: the server gets ahead of the checkpoint.
    async fn go_on(&mut self, directives: usize) {
        for _ in 0..directives {
            carry_out(&self.session, &mut self.trainer);
            if self.session.done().is_some() {
                break;
            }
            self.session.next().await.unwrap();
        }
        assert!(self.session.flush(SOON).await);
    }

    async fn finish(mut self) -> SimTrainer {
        while self.session.done().is_none() {
            carry_out(&self.session, &mut self.trainer);
            self.session.next().await.unwrap();
        }
        carry_out(&self.session, &mut self.trainer);
        self.session.close(SOON).await;
        self.trainer
    }

    fn file(&self) -> File {
        self.trainer.file(self.session.state().unwrap(), self.session.state_slot())
    }
}

async fn undisturbed(policy: &PolicySpec) -> Vec<(u64, u64)> {
    let server = Server::start().await;
    bits(&Training::start(&server, policy).await.finish().await)
}

async fn job(server: &Server) -> Job {
    let request = GetJobRequest { name: "job".into() };
    server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
}

/// The job has ended with the steps of this trainer.
async fn assert_finished(server: &Server, trainer: &SimTrainer) -> Job {
    let job = job(server).await;
    let steps = job.steps.unwrap();
    assert_eq!(job.state(), JobState::Finished);
    assert_eq!(steps.committed + steps.search + steps.lost, trainer.line.len() as u64);
    job
}

/// Makes a checkpoint at a place, trains on, dies, comes back with the checkpoint and ends as if nothing had been.
async fn comes_back(policy: PolicySpec, reached: impl Fn(&Snapshot) -> bool) {
    let expected = undisturbed(&policy).await;
    for directives_lost in [0, 4] {
        let server = Server::start().await;
        let mut training = Training::start(&server, &policy).await;
        let file = training.until(&reached).await.file();
        training.go_on(directives_lost).await;
        drop(training);
        let trainer = Training::resume(&server, &policy, &file).await.finish().await;
        assert!(bits(&trainer) == expected, "another line after {directives_lost} directives");
        assert_finished(&server, &trainer).await;
    }
}

fn within(phase: Phase, offset: u64) -> impl Fn(&Snapshot) -> bool {
    move |now| now.phase == Some(phase) && now.offset == offset
}

#[tokio::test]
async fn in_a_branch_of_a_scan() {
    comes_back(scan(), |now| now.trial == Some(2) && now.offset == 5).await;
}

#[tokio::test]
async fn in_a_trial_of_paper() {
    comes_back(paper(50), |now| now.stage == 2 && now.trial == Some(1) && now.offset == 3).await;
}

#[tokio::test]
async fn in_a_trial_of_staged() {
    comes_back(staged(), |now| now.stage == 1 && now.trial == Some(1) && now.offset == 3).await;
}

#[tokio::test]
async fn in_the_warm_up() {
    comes_back(scan(), within(Phase::Warmup, 7)).await;
}

#[tokio::test]
async fn in_the_stable_phase() {
    comes_back(scan(), within(Phase::Stable, 33)).await;
    comes_back(staged(), |now| now.stage == 2 && now.phase == Some(Phase::Stable) && now.offset == 9).await;
}

#[tokio::test]
async fn in_the_cooldown() {
    comes_back(scan(), within(Phase::Cooldown, 11)).await;
}

#[tokio::test]
async fn at_a_boundary() {
    for policy in [scan(), paper(50), wsd()] {
        let expected = undisturbed(&policy).await;
        let server = Server::start().await;
        let mut training = Training::start(&server, &policy).await;
        // At each boundary it dies three times: after the last step, with the next directive, after its slot operations.
        let mut seen = 0;
        while training.session.done().is_none() {
            carry_out(&training.session, &mut training.trainer);
            // A search is begun again each time; once through it, every boundary counts.
            let tries = seen < 4 || training.session.snapshot().trial.is_none();
            for place in 0..3 {
                if tries {
                    let file = training.file();
                    drop(training);
                    training = Training::resume(&server, &policy, &file).await;
                    seen += 1;
                }
                match place {
                    0 => training.session.next().await.unwrap(),
                    1 => enter(&training.session, &mut training.trainer),
                    _ => {}
                }
            }
        }
        assert!(seen > 20, "{seen} boundaries");
        let trainer = training.finish().await;
        assert_eq!(bits(&trainer), expected);
        assert_finished(&server, &trainer).await;
    }
}

#[tokio::test]
async fn with_an_older_checkpoint_the_job_goes_back_to_it() {
    for policy in [wsd(), paper(50)] {
        let expected = undisturbed(&policy).await;
        let server = Server::start().await;
        let mut training = Training::start(&server, &policy).await;
        let file = training.until(|now| now.total_step > 130 && now.trial.is_none()).await.file();
        let (seq, steps) = (training.session.snapshot().seq, training.trainer.line.len());
        training.until(|now| now.total_step > 600 && now.trial.is_none()).await.go_on(0).await;
        let ahead = training.session.snapshot();
        assert!(ahead.seq > seq + 3, "several directives later");
        drop(training);
        let training = Training::resume(&server, &policy, &file).await;
        let now = training.session.snapshot();
        assert_eq!((now.seq, now.total_step), (seq, steps as u64));
        assert_eq!(job(&server).await.steps.unwrap().repeated, ahead.total_step - steps as u64);
        let trainer = training.finish().await;
        assert_eq!(bits(&trainer), expected);
        assert_finished(&server, &trainer).await;
    }
}

#[tokio::test]
async fn with_a_checkpoint_that_is_too_old_it_is_told_the_oldest_that_will_do() {
    let (policy, server) = (paper(20), Server::start().await);
    let mut training = Training::start(&server, &policy).await;
    let mut files = Vec::new();
    let stable = |now: &Snapshot| now.phase == Some(Phase::Stable) && now.offset == 3;
    while training.session.snapshot().total_step < 600 {
        training.until(stable).await;
        files.push((training.session.snapshot().seq, training.file()));
        step(&training.session, &mut training.trainer);
    }
    training.go_on(0).await;
    drop(training);
    let too_old = config(&server, &policy);
    let too_old = SessionConfig { resume: Some(files[0].1.session.clone()), ..too_old };
    let before = job(&server).await;
    let error = Session::open(too_old).await.err().expect("refused");
    let Error::CheckpointTooOld { oldest_seq: Some(oldest), .. } = error else { panic!("{error}") };
    assert_eq!(job(&server).await, before, "a refusal changes nothing");
    assert!(files[0].0 < oldest);
    let usable = files.into_iter().find(|(seq, _)| *seq >= oldest).expect("a checkpoint that will do");
    let trainer = Training::resume(&server, &policy, &usable.1).await.finish().await;
    assert_eq!(bits(&trainer), undisturbed(&policy).await);
    assert_finished(&server, &trainer).await;
}

#[tokio::test]
async fn with_nothing_it_is_told_the_ways_out() {
    let (policy, server) = (wsd(), Server::start().await);
    let mut training = Training::start(&server, &policy).await;
    training.until(|now| now.total_step == 150).await.go_on(0).await;
    drop(training);
    let empty = SessionConfig { takeover: true, ..config(&server, &policy) };
    let before = job(&server).await;
    let error = Session::open(empty.clone()).await.err().expect("refused");
    assert!(matches!(error, Error::ResumeRequired(_)), "{error}");
    let said = error.to_string();
    for way in ["150 steps", "Resume from a checkpoint", "restart", "another name"] {
        assert!(said.contains(way), "{said}");
    }
    assert_eq!(job(&server).await, before, "a refusal changes nothing");
    let elsewhere = Session::open(SessionConfig { job: "another".into(), ..empty.clone() }).await.unwrap();
    assert_eq!(elsewhere.snapshot().total_step, 0);
    let session = Session::open(SessionConfig { restart: true, ..empty }).await.unwrap();
    let trainer = SimTrainer::new(Optimum::default());
    let trainer = Training { session, trainer }.finish().await;
    assert_eq!(bits(&trainer), undisturbed(&policy).await);
    assert_finished(&server, &trainer).await;
}

#[tokio::test]
async fn with_a_checkpoint_of_another_job_it_is_refused() {
    let (policy, server, other) = (wsd(), Server::start().await, Server::start().await);
    let mut training = Training::start(&other, &policy).await;
    let file = training.until(|now| now.total_step == 150).await.file();
    let mut own = Training::start(&server, &policy).await;
    own.until(|now| now.total_step == 150).await.go_on(0).await;
    let before = job(&server).await;
    // Under the same name on another server, and under another name on its own.
    let resume = Some(file.session);
    for config in [
        SessionConfig { resume: resume.clone(), ..config(&server, &policy) },
        SessionConfig { resume, job: "another".into(), ..config(&other, &policy) },
    ] {
        let error = Session::open(config).await.err().expect("refused");
        assert!(matches!(error, Error::CheckpointMismatch(_)), "{error}");
    }
    assert_eq!(job(&server).await, before, "a refusal changes nothing");
    assert_finished(&server, &own.finish().await).await;
}

#[tokio::test]
async fn a_state_taken_inside_a_search_holds_its_start() {
    for (policy, slot) in [(scan(), Slot::Start), (paper(50), Slot::Stage), (staged(), Slot::Stage)] {
        let expected = undisturbed(&policy).await;
        let server = Server::start().await;
        let mut training = Training::start(&server, &policy).await;
        let stage = u32::from(slot == Slot::Stage);
        training.until(|now| now.stage == stage && now.trial == Some(0) && now.offset == 0).await;
        let (start, state) = (training.session.snapshot(), training.trainer.model().clone());
        training.until(|now| now.stage == stage && now.trial == Some(2) && now.offset == 4).await;
        assert_eq!(training.session.state_slot(), Some(slot));
        assert_ne!(training.trainer.model(), &state, "the trial has left its mark");
        let file = training.file();
        training.go_on(1).await;
        drop(training);
        let mut training = Training::resume(&server, &policy, &file).await;
        enter(&training.session, &mut training.trainer);
        let now = training.session.snapshot();
        assert_eq!((now.seq, now.offset, now.total_step), (start.seq, 0, start.total_step));
        assert_eq!(training.trainer.model(), &state);
        let trainer = training.finish().await;
        assert_eq!(bits(&trainer), expected);
        assert_finished(&server, &trainer).await;
    }
}

#[tokio::test]
async fn a_guard_whose_slot_was_lost_takes_the_checkpoint_at_hand() {
    let (policy, server) = (wsd(), Server::start().await);
    let mut training = Training::start(&server, &policy).await;
    let file = training.until(|now| now.phase == Some(Phase::Stable) && now.total_step == 333).await.file();
    drop(training);
    let mut training = Training::resume(&server, &policy, &file).await;
    let state = training.trainer.model().clone();
    enter(&training.session, &mut training.trainer);
    assert_eq!(training.trainer.slots(), [Slot::Safe, Slot::SafePrev], "saved anew");
    let before = training.session.snapshot();
    for _ in 0..4 {
        step(&training.session, &mut training.trainer);
    }
    let now = training.session.snapshot();
    training.trainer.step(now.seq, now.lr);
    assert_eq!(training.session.record(f64::NAN), Status::Ended);
    training.session.next().await.unwrap();
    enter(&training.session, &mut training.trainer);
    let after = training.session.snapshot();
    assert_eq!(training.trainer.model(), &state, "the checkpoint's own state");
    assert_eq!((after.committed_step, after.lr), (before.committed_step, before.lr / 2.0));
    let trainer = training.finish().await;
    let job = assert_finished(&server, &trainer).await;
    assert_eq!(job.steps.unwrap().lost, 5);
}

/// Opens a session of a trainer that speaks for itself, with a checkpoint that has none of the job's slots.
async fn resume_without_slots(
    server: &Server,
    opened: &OpenSessionResponse,
    seq: u64,
    offset: u64,
) -> OpenSessionResponse {
    let resume = Resume { uid: opened.uid.clone(), seq, offset, slots: Vec::new() };
    let open =
        OpenSessionRequest { job: "job".into(), resume: Some(resume), ..OpenSessionRequest::default() };
    server.trainer().open_session(open).await.unwrap().into_inner()
}

fn op(kind: Kind, slot: pb::Slot) -> SlotOp {
    SlotOp { kind: kind.into(), slot: slot.into() }
}

#[tokio::test]
async fn a_search_whose_slot_was_lost_starts_over_or_is_closed() {
    let server = Server::start().await;
    let spec = trainer::spec(1500, Policy::Scan(ScanPolicy::default()));
    let opened = trainer::open(&server, "job", spec).await.unwrap();
    let first = opened.directive.clone().unwrap();
    let (mut model, mut directive) = (Model::default(), first.clone());
    for _ in 0..3 {
        let report = model.carry_out("job", opened.session, &directive).unwrap();
        directive = advance(&server, report).await.unwrap().directive.unwrap();
    }
    let phase = |opened: &OpenSessionResponse| match &opened.directive.as_ref().unwrap().action {
        Some(pb::directive::Action::Run(run)) => run.phase(),
        other => panic!("{other:?}"),
    };
    // From the checkpoint at its start the search starts over.
    let again = resume_without_slots(&server, &opened, first.seq, 0).await;
    let asked = again.directive.clone().unwrap();
    assert_eq!((asked.seq, &asked.slot_ops, &asked.action), (first.seq, &first.slot_ops, &first.action));
    assert_eq!((again.slot_ops, asked.slot_ops), (vec![], vec![op(Kind::Save, pb::Slot::Start)]));
    let report = Model::default().carry_out("job", again.session, &first).unwrap();
    let second = advance(&server, report).await.unwrap().directive.unwrap();
    // From one within it, it is closed with what was measured.
    let closed = resume_without_slots(&server, &opened, second.seq, 5).await;
    assert_eq!(phase(&closed), pb::Phase::Warmup);
    assert_eq!(closed.slot_ops, [op(Kind::Save, pb::Slot::Start)]);
    assert_eq!(closed.directive.unwrap().slot_ops[0], op(Kind::Restore, pb::Slot::Start));
    let job = job(&server).await;
    assert!(job.warnings.iter().any(|warning| warning.contains("slot")), "{:?}", job.warnings);
    assert_eq!(job.commits.len(), 1);
}

#[tokio::test]
async fn of_two_trainers_the_second_is_told_who_the_first_is() {
    let (policy, server) = (wsd(), Server::start().await);
    let mut training = Training::start(&server, &policy).await;
    let refused = Session::open(config(&server, &policy)).await.err().expect("refused");
    let pid = std::process::id();
    assert!(
        matches!(&refused, Error::SessionActive { pid: p, same_host: true, .. } if *p == pid),
        "{refused}"
    );
    training.until(|now| now.total_step == 150).await.go_on(0).await;
    let refused = Session::open(config(&server, &policy)).await.err().expect("refused");
    assert!(matches!(&refused, Error::SessionActive { pid: p, .. } if *p == pid), "{refused}");
    let trainer = training.finish().await;
    assert_eq!(bits(&trainer), undisturbed(&policy).await, "the first has noticed nothing");
    assert_eq!(assert_finished(&server, &trainer).await.session, 1);
}

#[tokio::test]
async fn after_a_takeover_the_old_trainer_changes_nothing_and_goes_on_alone() {
    for policy in [wsd(), scan()] {
        let server = Server::start().await;
        let mut old = Training::start(&server, &policy).await;
        let file = old.until(|now| now.phase == Some(Phase::Stable) && now.offset == 40).await.file();
        let planned = old.session.snapshot();
        let with =
            SessionConfig { resume: Some(file.session.clone()), takeover: true, ..config(&server, &policy) };
        let new = Training::resume_with(with, &file).await;
        assert!(new.session.flush(SOON).await, "the losses that came with the checkpoint");
        let before = job(&server).await;
        while old.session.done().is_none() {
            carry_out(&old.session, &mut old.trainer);
            old.session.next().await.unwrap();
        }
        let notices = old.session.take_notices();
        assert!(notices.iter().any(|notice| notice.contains("session 2")), "{notices:?}");
        assert!(old.session.snapshot().detached);
        assert_eq!(old.trainer.line.len(), 1000, "its fallback runs to the end of the budget");
        let last = old.trainer.line[999].lr;
        assert!(last < planned.lr / 10.0, "and cools down: {last}");
        let after = job(&server).await;
        assert_eq!(
            (after.revision, after.steps, after.state()),
            (before.revision, before.steps, before.state())
        );
        assert_eq!((after.session, after.commits), (2, before.commits));
        let trainer = new.finish().await;
        assert_eq!(bits(&trainer), undisturbed(&policy).await);
        assert_finished(&server, &trainer).await;
    }
}
