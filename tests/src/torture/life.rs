//! One job's life: a server and a trainer, both of which die again and again, until the job has ended.

use super::{
    Recipe,
    books::{self, Books, differing},
    kill::{Counts, Kill, POINTS, Point, Side},
    process::{Process, Trace, is_killed},
};
use crate::{
    server::{built, lasting_address, serve},
    sim::Step,
};
use autolrs_proto::v1::JobState;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A life in which nothing happens for so long is stuck. Far above what anything here takes, and below the trainer's
/// decision time-out, after which it would go on with its fallback.
const STUCK_AFTER: Duration = Duration::from_secs(100);
/// Between two looks at the processes.
const TICK: Duration = Duration::from_millis(2);
/// The job's name.
const JOB: &str = "job";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What an undisturbed life came to.
pub(super) struct Undisturbed {
    line: Vec<Step>,
    books: Books,
    pub(super) counts: Counts,
}

/// What a life came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Kills, by number in [`POINTS`].
    pub(super) kills: BTreeMap<usize, u64>,
    /// Kills of the process beside one that died, at the same time.
    pub(super) beside: u64,
    pub(super) lost_reports: usize,
    pub(super) changed_decisions: usize,
    /// Why it did not come to its end.
    pub(super) stuck: Option<String>,
    /// What is wrong, for people.
    pub(super) remarks: Vec<String>,
}

impl Outcome {
    pub(super) fn kills(&self) -> u64 {
        self.kills.values().sum::<u64>() + self.beside
    }
}

/// A process that runs, and when it is to die.
struct Running {
    process: Process,
    kill: Option<Kill>,
    /// Points that the harness counts, since its start.
    met: u64,
}

/// The processes and the files of a life.
struct Life {
    recipe: Recipe,
    address: SocketAddr,
    directory: TempDir,
    /// Kills to come, of each side.
    plans: BTreeMap<Side, VecDeque<Kill>>,
    running: BTreeMap<Side, Running>,
    /// Lines of the trainer with this number.
    trainers: u64,
    say: Sender<(u64, String)>,
    lines: Receiver<(u64, String)>,
    outcome: Outcome,
    ended: bool,
}

/// Lives a life without a kill. `log`: with strace, which counts what can be met.
pub(super) fn undisturbed(recipe: Recipe, log: bool) -> Result<Undisturbed, Failure> {
    let mut life = Life::new(recipe, BTreeMap::new())?;
    let mut counts = life.live(log)?;
    if let Some(why) = life.outcome.stuck {
        return Err(format!("{recipe:?}: an undisturbed job is stuck: {why}").into());
    }
    if log {
        for side in [Side::Server, Side::Trainer] {
            counts.extend(counted(side, &fs::read_to_string(life.calls(side))?));
        }
    }
    let (line, books) = life.read()?;
    if books.state != JobState::Finished || books.steps != line.len() as u64 || books.lost_steps > 0 {
        return Err(format!("{recipe:?}: an undisturbed job ends as {books:?}").into());
    }
    Ok(Undisturbed { line, books, counts })
}

/// Lives a life with kills and compares it with the undisturbed one.
pub(super) fn disturbed(
    recipe: Recipe,
    expected: &Undisturbed,
    plans: BTreeMap<Side, VecDeque<Kill>>,
) -> Result<Outcome, Failure> {
    let mut life = Life::new(recipe, plans)?;
    life.live(false)?;
    if life.outcome.stuck.is_some() {
        return Ok(std::mem::take(&mut life.outcome));
    }
    let (line, books) = life.read()?;
    let mut outcome = std::mem::take(&mut life.outcome);
    outcome.compare(expected, &line, &books);
    Ok(outcome)
}

impl Outcome {
    fn compare(&mut self, expected: &Undisturbed, line: &[Step], books: &Books) {
        let lacking = expected.books.steps.abs_diff(books.steps) + books.steps.abs_diff(line.len() as u64);
        let losses = differing(&expected.books.losses, &books.losses);
        self.lost_reports = losses + usize::try_from(lacking).unwrap_or(usize::MAX);
        if self.lost_reports > 0 {
            let Books { state, steps, .. } = books;
            let text = format!("{state:?}, {steps} steps of {}, {losses} other losses", expected.books.steps);
            self.remarks.push(text);
        }
        let other_steps = changed(&expected.line, line);
        self.changed_decisions = other_steps.len() + differing(&expected.books.decisions, &books.decisions);
        if books.state != JobState::Finished {
            self.stuck = Some(format!("the job is {:?} at the end of its training", books.state));
        }
        if self.changed_decisions > 0 {
            let pairs = expected.books.decisions.iter().zip(&books.decisions);
            let first = pairs.filter(|(a, b)| a != b).map(|(a, b)| format!("{b} instead of {a}")).next();
            self.remarks.push(format!("other steps in {other_steps:?}; {}", first.unwrap_or_default()));
        }
    }
}

/// The undisturbed directives whose steps are not the same in `line`, to the bit; also where only a loss differs.
fn changed(expected: &[Step], line: &[Step]) -> BTreeSet<u64> {
    let differs = |i: &usize| line.get(*i).map(Step::bits) != Some(expected[*i].bits());
    let mut changed: BTreeSet<u64> = (0..expected.len()).filter(differs).map(|i| expected[i].seq).collect();
    changed.extend((line.len() > expected.len()).then_some(u64::MAX));
    changed
}

impl Life {
    fn new(recipe: Recipe, plans: BTreeMap<Side, VecDeque<Kill>>) -> io::Result<Self> {
        let (say, lines) = mpsc::channel();
        let directory = tempfile::Builder::new().prefix("autolrs-torture-").tempdir()?;
        fs::create_dir(directory.path().join("trainer"))?;
        Ok(Self {
            recipe,
            address: lasting_address(),
            directory,
            plans,
            running: BTreeMap::new(),
            trainers: 0,
            say,
            lines,
            outcome: Outcome::default(),
            ended: false,
        })
    }

    /// Until the trainer has ended, or nothing happens any more. How often the points came that the harness counts.
    fn live(&mut self, log: bool) -> Result<Counts, Failure> {
        let mut counts = Counts::new();
        for side in [Side::Server, Side::Trainer] {
            self.start(side, log)?;
        }
        let mut last = Instant::now();
        while !self.ended && self.outcome.stuck.is_none() {
            match self.lines.recv_timeout(TICK) {
                Ok((trainer, line)) if trainer == self.trainers => {
                    last = Instant::now();
                    self.meet(&line, &mut counts)?;
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the trainer's lines are gone".into()),
            }
            for side in [Side::Server, Side::Trainer] {
                if self.bury(side)? {
                    last = Instant::now();
                }
            }
            if last.elapsed() > STUCK_AFTER {
                self.stuck(format!("nothing has happened for {} s", STUCK_AFTER.as_secs()));
            }
        }
        self.running.clear();
        Ok(counts)
    }

    /// The trainer has said something: a point that kills wait for.
    fn meet(&mut self, line: &str, counts: &mut Counts) -> Result<(), Failure> {
        let met = match line.split_whitespace().next() {
            Some("next") => Point::Next,
            Some("step") => Point::Step,
            _ => return Ok(()),
        };
        for (number, (side, point, _)) in POINTS.iter().enumerate() {
            if *point != met {
                continue;
            }
            *counts.entry(number).or_default() += 1;
            let Some(running) = self.running.get_mut(side) else { continue };
            if let Some(kill) = running.kill.filter(|kill| kill.point == number) {
                running.met += 1;
                if running.met == kill.nth {
                    running.process.kill()?;
                }
            }
        }
        Ok(())
    }

    /// Enters the death of a process and starts the next one. False: it lives.
    fn bury(&mut self, side: Side) -> Result<bool, Failure> {
        let Some(status) = self.running.get_mut(&side).map(|r| r.process.ended()).transpose()?.flatten()
        else {
            return Ok(false);
        };
        let kill = self.running.remove(&side).and_then(|running| running.kill);
        match kill {
            Some(kill) if is_killed(status) => self.killed(side, kill)?,
            _ => self.left(side, status),
        }
        if !self.ended && self.outcome.stuck.is_none() {
            self.start(side, false)?;
        }
        Ok(true)
    }

    fn killed(&mut self, side: Side, kill: Kill) -> Result<(), Failure> {
        *self.outcome.kills.entry(kill.point).or_default() += 1;
        let beside = side.other();
        if !kill.both {
            return Ok(());
        }
        let Some(mut running) = self.running.remove(&beside) else { return Ok(()) };
        if running.process.kill()? {
            self.outcome.beside += 1;
        } else {
            // It was done before.
            let status = running.process.ended()?;
            status.into_iter().for_each(|status| self.left(beside, status));
        }
        // A kill of its own that did not come is still to come.
        self.plans.entry(beside).or_default().extend(running.kill);
        if self.ended { Ok(()) } else { self.start(beside, false) }
    }

    /// A process has ended by itself.
    fn left(&mut self, side: Side, status: ExitStatus) {
        if side == Side::Trainer && status.success() {
            self.ended = true;
        } else {
            let log = fs::read_to_string(self.log(side)).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            self.stuck(format!("the {side:?} ended by itself, {status}: {last:?}"));
        }
    }

    fn stuck(&mut self, why: String) {
        self.outcome.stuck.get_or_insert(why);
    }

    fn start(&mut self, side: Side, log: bool) -> Result<(), Failure> {
        let kill = self.plans.get_mut(&side).and_then(VecDeque::pop_front);
        let (calls, into) = (all_calls(side), self.calls(side));
        let trace = match kill.map(|kill| (POINTS[kill.point].1, kill.nth)) {
            Some((Point::Call(calls), nth)) => Trace::Kill { calls, nth },
            _ if log => Trace::Log { calls: &calls, log: &into },
            _ => Trace::Off,
        };
        let mut process = Process::start(self.command(side), trace, &self.log(side))?;
        if side == Side::Trainer {
            self.trainers += 1;
            let (number, say) = (self.trainers, self.say.clone());
            let said = BufReader::new(process.stdout().ok_or("the trainer has no output")?);
            thread::spawn(move || {
                for line in said.lines().map_while(Result::ok) {
                    if say.send((number, line)).is_err() {
                        break;
                    }
                }
            });
        }
        self.running.insert(side, Running { process, kill, met: 0 });
        Ok(())
    }

    fn command(&self, side: Side) -> Command {
        match side {
            Side::Server => serve(self.address, "off", &self.directory.path().join("store")),
            Side::Trainer => {
                let mut command = Command::new(built("autolrs-sim-trainer"));
                let url = format!("http://{}", self.address);
                command.args([&url, JOB, self.recipe.word()]).arg(self.trainer());
                command
            }
        }
    }

    /// The trainer's line, and the books of a server that is started on what the last one left.
    fn read(&mut self) -> Result<(Vec<Step>, Books), Failure> {
        let line = postcard::from_bytes(&fs::read(self.trainer().join("line"))?)?;
        self.plans.clear();
        self.start(Side::Server, false)?;
        let books = books::read(self.address, JOB).map_err(|error| error.to_string())?;
        Ok((line, books))
    }

    fn trainer(&self) -> PathBuf {
        self.directory.path().join("trainer")
    }

    fn log(&self, side: Side) -> PathBuf {
        self.directory.path().join(format!("{side:?}.log"))
    }

    fn calls(&self, side: Side) -> PathBuf {
        self.directory.path().join(format!("{side:?}.calls"))
    }
}

/// All system calls at which a side may be killed, with commas.
fn all_calls(side: Side) -> String {
    let of_side = POINTS.iter().filter(|(of, ..)| *of == side);
    let calls = of_side.filter_map(|(_, point, _)| match point {
        Point::Call(calls) => Some(*calls),
        Point::Next | Point::Step => None,
    });
    calls.collect::<Vec<_>>().join(",")
}

/// The most calls that one thread made of one system call, for each kind of point: strace counts them like that.
fn counted(side: Side, log: &str) -> Counts {
    let mut threads: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(call)) = (words.next(), words.next()) else { continue };
        if let Some((name, _)) = call.split_once('(') {
            *threads.entry((thread, name)).or_default() += 1;
        }
    }
    let most = |calls: &str| {
        let of = |call| threads.iter().filter(move |((_, name), _)| *name == call).map(|(_, n)| *n);
        calls.split(',').flat_map(of).max().unwrap_or(0)
    };
    let points = POINTS.iter().enumerate().filter(|(_, (of, ..))| *of == side);
    let calls = points.filter_map(|(number, (_, point, _))| match point {
        Point::Call(calls) => Some((number, most(calls))),
        Point::Next | Point::Step => None,
    });
    calls.collect()
}
