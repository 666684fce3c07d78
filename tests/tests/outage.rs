//! The server is gone, frozen, out of reach or refuses, in every phase of a job: training goes on with the fallback to
//! its end, and the server takes over what was really run.

use autolrs_client::{DoneReason, Error, OnOutage, Phase, Session, SessionConfig, Status};
use autolrs_proto::v1::{ExportScheduleRequest, GetJobRequest, Job, JobState, ListStagesRequest, Stage};
use autolrs_tests::{
    jobs::Kind,
    proxy::{Proxy, Way},
    server::Server,
    sim::{Optimum, SimTrainer, Step},
    trainer::piece_lrs,
    training::{bits, carry_out, enter, step, train},
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// Longer than anything takes here.
const SOON: Duration = Duration::from_secs(60);
/// Short, but a decision that is not disturbed mostly takes less on a busy machine too.
const DECISION_TIMEOUT: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 10;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    /// `kill -9`; started again on the same store.
    Killed,
    /// SIGSTOP; SIGCONT.
    Frozen,
    /// The network swallows everything; what was sent arrives in the end.
    BlackHole,
    /// Every call is answered UNAVAILABLE.
    Unavailable,
}

/// When the server is back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Back {
    /// While the trainer waits.
    InTime,
    /// In the middle of the fallback.
    Later,
    /// When the training is over: for the trainer it was away for ever.
    AfterTheEnd,
}

/// Where in a job the server goes away: a few steps into a directive.
#[derive(Debug, Clone, Copy)]
struct Place(Kind, At);

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    /// The first of a phase.
    First(Phase),
    /// The trial after the first.
    SecondTrial,
    /// The trial after which the server commits an LR.
    LastTrial,
}

const PLACES: [Place; 10] = [
    Place(Kind::Scan, At::First(Phase::Trial)),
    Place(Kind::Scan, At::SecondTrial),
    Place(Kind::Scan, At::LastTrial),
    Place(Kind::Scan, At::First(Phase::Warmup)),
    Place(Kind::Scan, At::First(Phase::Stable)),
    Place(Kind::Scan, At::First(Phase::Cooldown)),
    Place(Kind::Staged, At::SecondTrial),
    Place(Kind::Staged, At::LastTrial),
    Place(Kind::Paper, At::LastTrial),
    Place(Kind::Wsd, At::First(Phase::Stable)),
];

/// A training without an outage.
#[derive(Default)]
struct Course {
    /// The LR and the loss of every step.
    line: Vec<(u64, u64)>,
    /// Its directives.
    directives: Vec<(u64, Phase)>,
}

impl Course {
    /// The directive of a place.
    fn seq(&self, at: At) -> u64 {
        let all = &self.directives;
        let trial = |&(_, phase): &(u64, Phase)| phase == Phase::Trial;
        let found = match at {
            At::First(wanted) => all.iter().position(|&(_, phase)| phase == wanted),
            At::SecondTrial => all.windows(2).position(|two| two.iter().all(trial)).map(|first| first + 1),
            At::LastTrial => all.windows(2).position(|two| trial(&two[0]) && !trial(&two[1])),
        };
        all[found.expect("the job has such a place")].0
    }
}

/// A server and the network before it.
struct World {
    outage: Outage,
    server: Server,
    proxy: Proxy,
}

impl World {
    async fn new(outage: Outage) -> Self {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address, []).await;
        Self { outage, server, proxy }
    }

    /// Where trainers find the server.
    fn url(&self) -> String {
        match self.outage {
            Outage::Killed | Outage::Frozen => self.server.url(),
            Outage::BlackHole | Outage::Unavailable => self.proxy.url(),
        }
    }

    fn config(&self, name: &str, kind: Kind) -> SessionConfig {
        SessionConfig {
            server: self.url(),
            token: None,
            replay: true,
            ..SessionConfig::new(name, kind.spec())
        }
    }

    fn begin(&mut self) {
        match self.outage {
            Outage::Killed => self.server.kill(),
            Outage::Frozen => self.send(Signal::STOP),
            Outage::BlackHole => self.proxy.set(Way::BlackHole),
            Outage::Unavailable => self.proxy.set(Way::Unavailable),
        }
    }

    async fn end(&mut self) {
        match self.outage {
            Outage::Killed => self.server.up().await,
            Outage::Frozen => self.send(Signal::CONT),
            Outage::BlackHole | Outage::Unavailable => self.proxy.set(Way::Open),
        }
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.server.pid().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("signalled");
    }

    async fn job(&self, name: &str) -> Job {
        let request = GetJobRequest { name: name.into() };
        self.server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    /// What the server says of a job: the job, its stages, and the LRs of the steps that were kept.
    async fn shown(&self, name: &str) -> (Job, Vec<Stage>, Vec<f64>) {
        let request = ListStagesRequest { job: name.into(), ..ListStagesRequest::default() };
        let stages = self.server.jobs().list_stages(request).await.unwrap().into_inner().stages;
        let request = ExportScheduleRequest { job: name.into(), ..ExportScheduleRequest::default() };
        let exported = self.server.jobs().export_schedule(request).await.unwrap().into_inner();
        let kept = exported.schedule.unwrap().pieces.iter().flat_map(piece_lrs).collect();
        (self.job(name).await, stages, kept)
    }

    /// A job under way in a directive, undisturbed so far: on a machine that was too busy for that it is begun again.
    async fn reach(&self, seq: u64, config: SessionConfig) -> (Session, SimTrainer, String) {
        for attempt in 0..ATTEMPTS {
            let job = format!("{}-{attempt}", config.job);
            let session = Session::open(SessionConfig { job: job.clone(), ..config.clone() }).await.unwrap();
            let mut trainer = SimTrainer::new(Optimum::default());
            if run_into(&session, &mut trainer, seq).await {
                return (session, trainer, job);
            }
        }
        panic!("a decision took longer than {:?} in each of {ATTEMPTS} jobs", config.decision_timeout);
    }

    async fn undisturbed(&self, kind: Kind) -> Course {
        let session = Session::open(self.config(&format!("{kind:?}").to_lowercase(), kind)).await.unwrap();
        let (mut trainer, mut course) = (SimTrainer::new(Optimum::default()), Course::default());
        while session.done().is_none() {
            let now = session.snapshot();
            course.directives.extend(now.phase.map(|phase| (now.seq, phase)));
            // A trial that went on from a rung is the same.
            course.directives.dedup();
            carry_out(&session, &mut trainer);
            session.next().await.unwrap();
        }
        assert!(session.flush(SOON).await);
        Course { line: bits(&trainer), ..course }
    }
}

/// Runs two steps into the directive `seq`. False: an answer took too long.
async fn run_into(session: &Session, trainer: &mut SimTrainer, seq: u64) -> bool {
    while session.snapshot().seq != seq {
        assert_eq!(session.done(), None, "the job has such a directive");
        carry_out(session, trainer);
        session.next().await.unwrap();
        if session.snapshot().detached {
            return false;
        }
    }
    enter(session, trainer);
    run_steps(session, trainer, 2);
    true
}

/// Runs some steps within the directive in force.
fn run_steps(session: &Session, trainer: &mut SimTrainer, steps: u64) {
    for _ in 0..steps {
        assert_ne!(step(session, trainer), Status::Ended);
    }
}

/// A training through an outage, told from its end.
struct Told {
    /// Its steps.
    line: Vec<Step>,
    /// Steps before the fallback.
    before: usize,
    job: Job,
    stages: Vec<Stage>,
    /// The LRs that the server says were kept.
    kept: Vec<f64>,
}

/// Trains through an outage that begins in directive `seq`, to the end of the job and until the server has taken over
/// what was run.
async fn through(world: &mut World, name: String, kind: Kind, seq: u64, back: Back) -> Told {
    let decision_timeout = if back == Back::InTime { SOON } else { DECISION_TIMEOUT };
    let config = SessionConfig { decision_timeout, ..world.config(&name, kind) };
    let (session, mut trainer, name) = world.reach(seq, config).await;
    world.begin();
    while step(&session, &mut trainer) != Status::Ended {}
    let before = trainer.line.len();
    if back == Back::InTime {
        let (next, ()) = tokio::join!(session.next(), world.end());
        next.unwrap();
        assert!(!session.snapshot().detached);
    } else {
        session.next().await.unwrap();
        assert!(session.snapshot().detached, "the fallback is in force");
    }
    if back == Back::Later {
        enter(&session, &mut trainer);
        run_steps(&session, &mut trainer, 2);
        world.end().await;
        assert!(session.flush(SOON).await, "what was run meanwhile is taken over");
        assert!(!session.snapshot().detached);
    }
    train(&session, &mut trainer).await;
    if back == Back::AfterTheEnd {
        assert!(session.snapshot().detached);
        world.end().await;
    }
    assert!(session.flush(SOON).await);
    session.close(Duration::ZERO).await;
    let (job, stages, kept) = world.shown(&name).await;
    Told { line: trainer.line, before, job, stages, kept }
}

/// What holds of every training through an outage.
fn check(told: &Told, course: &Course, place: Place, back: Back) {
    let Told { line, job, kept, .. } = told;
    let of_line: Vec<_> = line.iter().map(Step::bits).collect();
    assert_eq!(job.state(), JobState::Finished);
    let steps = job.steps.unwrap();
    assert_eq!(steps.committed + steps.search + steps.lost, line.len() as u64);
    // The fallback of a trial that may end at a rung has steps for a whole one.
    let at_a_rung = place.0 == Kind::Staged && back != Back::InTime;
    let unspent = job.total_steps.unwrap() - line.len() as u64;
    assert!(unspent == 0 || at_a_rung && unspent < 20, "{unspent} steps of the budget are left");
    let same = if back == Back::InTime { line.len() } else { told.before };
    assert_eq!(of_line[..same], course.line[..same]);
    let fallback = line.get(told.before).map_or(0, |step| step.seq);
    let warning = format!("the trainer had no answer in time: fallback {fallback} is in force");
    assert_eq!(job.warnings.contains(&warning), back != Back::InTime, "{:?}", job.warnings);
    let run: Vec<f64> = line.iter().map(|step| step.lr).collect();
    assert_eq!(kept.len() as u64, steps.committed);
    if back != Back::InTime {
        let alone = &run[told.before..];
        let kept = &kept[kept.len() - alone.len()..];
        let same = kept.iter().zip(alone).all(|(kept, run)| (kept / run - 1.0).abs() < 1e-12);
        assert!(same, "all of it was kept: {alone:?} as {kept:?}");
        check_stages(told, place, alone);
    }
    let peak = kept.iter().copied().fold(0.0, f64::max);
    match place.0 {
        // As published: the last LR is held to the end.
        Kind::Paper => assert_eq!(kept.last(), job.commits.last().map(|commit| &commit.lr)),
        _ => assert!(kept.last().unwrap() * 20.0 < peak, "it was cooled: {peak} to {:?}", kept.last()),
    }
}

/// A search that the outage has cut short is closed with the LR that was really taken: if the server made a choice
/// meanwhile that the trainer never heard of, nothing of it is shown.
fn check_stages(told: &Told, place: Place, alone: &[f64]) {
    let (At::SecondTrial | At::LastTrial | At::First(Phase::Trial)) = place.1 else { return };
    let stage = told.stages.iter().rev().find(|stage| !stage.trials.is_empty()).expect("a search");
    let taken = alone.iter().copied().fold(0.0, f64::max);
    assert_eq!(stage.lr, Some(taken));
    assert!(stage.why.contains("went on with its fallback"), "{}", stage.why);
    assert_eq!((stage.forecast, stage.forecast_sd), (None, None), "a forecast for another LR");
    assert_eq!(stage.curve, [], "a choice that was not taken");
    assert_eq!(told.job.commits.iter().map(|commit| commit.lr).next_back(), Some(taken));
}

async fn every_place(outage: Outage) {
    let mut world = World::new(outage).await;
    for kind in [Kind::Scan, Kind::Staged, Kind::Paper, Kind::Wsd] {
        let course = world.undisturbed(kind).await;
        for (number, place) in PLACES.into_iter().enumerate().filter(|(_, place)| place.0 == kind) {
            let seq = course.seq(place.1);
            for back in [Back::InTime, Back::Later, Back::AfterTheEnd] {
                println!("{outage:?} in {place:?}, back {back:?}");
                let name = format!("{number}-{back:?}").to_lowercase();
                let told = through(&mut world, name, kind, seq, back).await;
                check(&told, &course, place, back);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone() {
    every_place(Outage::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen() {
    every_place(Outage::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything() {
    every_place(Outage::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_unavailable() {
    every_place(Outage::Unavailable).await;
}

/// In each way of an outage: errors as long as it lasts, and nothing lost after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_asked_for_errors_gets_them_and_goes_on() {
    for outage in [Outage::Killed, Outage::Frozen, Outage::BlackHole, Outage::Unavailable] {
        let mut world = World::new(outage).await;
        let course = world.undisturbed(Kind::Scan).await;
        let config = SessionConfig {
            on_outage: OnOutage::Raise,
            decision_timeout: Duration::from_millis(100),
            ..world.config("job", Kind::Scan)
        };
        let session = Session::open(config).await.unwrap();
        let mut trainer = SimTrainer::new(Optimum::default());
        for at in [At::SecondTrial, At::First(Phase::Stable)] {
            // A machine that is busy is an outage too.
            while session.snapshot().seq != course.seq(at) {
                carry_out(&session, &mut trainer);
                while session.next().await.is_err() {}
            }
            world.begin();
            carry_out(&session, &mut trainer);
            for _ in 0..2 {
                let error = session.next().await.unwrap_err();
                assert!(matches!(error, Error::ServerUnavailable { .. }), "{outage:?}: {error}");
                assert!(!session.snapshot().detached);
            }
            world.end().await;
            while session.next().await.is_err() {}
        }
        while session.done().is_none() {
            carry_out(&session, &mut trainer);
            while session.next().await.is_err() {}
        }
        assert!(session.flush(SOON).await);
        assert_eq!(bits(&trainer), course.line, "{outage:?}");
        assert_eq!(world.job("job").await.state(), JobState::Finished);
    }
}

/// No server when the training begins: an error, or the fallback LR for the whole budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_never_there() {
    for outage in [Outage::Killed, Outage::Frozen, Outage::BlackHole, Outage::Unavailable] {
        let mut world = World::new(outage).await;
        world.begin();
        alone(world.config("job", Kind::Wsd)).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows() {
    let config = SessionConfig { token: None, ..SessionConfig::new("job", Kind::Wsd.spec()) };
    alone(SessionConfig { server: "http://no-such-host.invalid:1".into(), ..config }).await;
}

async fn alone(config: SessionConfig) {
    let config = SessionConfig { connect_timeout: DECISION_TIMEOUT, ..config };
    let error = Session::open(config.clone()).await.err().unwrap();
    assert!(matches!(&error, Error::ServerUnavailable { server, .. } if *server == config.server), "{error}");
    let session = Session::open(SessionConfig { on_outage: OnOutage::Fallback, ..config }).await.unwrap();
    assert!(session.snapshot().detached);
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&session, &mut trainer).await;
    assert_eq!((trainer.line.len(), session.done()), (400, Some(DoneReason::Finished)));
    assert!(trainer.line.iter().all(|step| step.lr == 0.05), "without a server there is no schedule");
}
