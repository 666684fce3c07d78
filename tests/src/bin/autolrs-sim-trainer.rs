//! A trainer as a process of its own, which can be killed at any instant: the real client, and a model whose every loss
//! shows a wrong restore, a wrong LR or a wrong batch.
//!
//! It writes DIRECTORY/checkpoint at its start and every few steps, goes on from it when it is started again, and at the
//! end writes DIRECTORY/line: every step that stands. It says on its standard output, a line each, when it has run a
//! step (`step`) and when it has been given a directive (`next`).

use autolrs_client::{Error, SessionConfig, Status, blocking::Session};
use autolrs_tests::{
    sim::{File, SimTrainer},
    torture::Recipe,
    training,
};
use clap::Parser;
use serde::Serialize;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Steps between checkpoints; no divisor of a stretch's length, so that they fall everywhere in it.
const CHECKPOINT_EVERY: usize = 13;
/// Steps between two at which it waits until the server has every loss.
const FLUSH_EVERY: usize = 31;
/// Longer than any server is away.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Parser)]
struct Args {
    /// URL of the server.
    server: String,
    /// Name of the job.
    job: String,
    /// What it is asked to do.
    recipe: Recipe,
    /// Where its files are.
    directory: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut training = Training::open(&args)?;
    training.run()?;
    training.say("end")?;
    if !training.session.flush(PATIENCE)? {
        return Err("the server did not take everything".into());
    }
    training.session.close(PATIENCE)?;
    write(&args.directory, "line", &training.trainer.line)?;
    Ok(())
}

struct Training<'a> {
    args: &'a Args,
    session: Session,
    trainer: SimTrainer,
    /// The directive in which the end of a job with an open budget was asked for.
    asked: Option<u64>,
}

impl<'a> Training<'a> {
    fn open(args: &'a Args) -> Result<Self, Box<dyn std::error::Error>> {
        let bytes = match fs::read(args.directory.join("checkpoint")) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let file: Option<File> = bytes.map(|bytes| postcard::from_bytes(&bytes)).transpose()?;
        let config = SessionConfig {
            server: args.server.clone(),
            token: None,
            resume: file.as_ref().map(|file| file.session.clone()),
            replay: true,
            connect_timeout: PATIENCE,
            ..SessionConfig::new(args.job.clone(), args.recipe.spec())
        };
        let session = Session::open(config)?;
        let surface = args.recipe.surface();
        let trainer = match &file {
            None => SimTrainer::new(surface),
            Some(file) => SimTrainer::load(file, surface, session.snapshot().total_step),
        };
        let training = Self { args, session, trainer, asked: None };
        if file.is_none() {
            // Before the first loss is out: a job that has progressed wants a checkpoint.
            training.checkpoint()?;
        }
        Ok(training)
    }

    fn run(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        for number in 0.. {
            training::enter(&self.session, &mut self.trainer);
            if self.session.done().is_some() {
                break;
            }
            while self.session.status() != Status::Ended {
                self.finish_if_due()?;
                self.step()?;
            }
            self.session.next()?;
            self.say("next")?;
            if number % 3 == 0 {
                // Before the slot operations of the new directive.
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        training::step(&self.session, &mut self.trainer);
        self.say("step")?;
        let done = self.trainer.line.len();
        if done.is_multiple_of(FLUSH_EVERY) {
            self.session.flush(PATIENCE)?;
        }
        let asked = self.asked == Some(self.session.snapshot().seq);
        if !asked && done.is_multiple_of(CHECKPOINT_EVERY) {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Asks for the end so that it always comes after the same step, whenever the trainer dies: from a checkpoint there,
    /// without another one until it has come, and with no step before it has heard that the end is wanted. A validation
    /// loss is what the server answers with that.
    fn finish_if_due(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let due = self.args.recipe.finish_at() == Some(self.trainer.line.len() as u64);
        if !due || self.asked.is_some() {
            return Ok(());
        }
        self.session.flush(PATIENCE)?;
        self.checkpoint()?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.session.finish(None) {
            if !matches!(error, Error::ServerUnavailable { .. }) || Instant::now() > until {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.asked = Some(self.session.snapshot().seq);
        self.session.validation(1.0);
        self.session.flush(PATIENCE)?;
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), Box<dyn std::error::Error>> {
        let file = self.trainer.file(self.session.state()?, self.session.state_slot());
        write(&self.args.directory, "checkpoint", &file)
    }

    fn say(&self, what: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{what} {} {}", self.session.snapshot().seq, self.trainer.line.len())
    }
}

/// The old file or the new one, whenever it is killed.
fn write<T: Serialize>(directory: &Path, name: &str, value: &T) -> Result<(), Box<dyn std::error::Error>> {
    let new = directory.join(format!("{name}.new"));
    let mut file = fs::File::create(&new)?;
    file.write_all(&postcard::to_stdvec(value)?)?;
    file.sync_all()?;
    fs::rename(new, directory.join(name))?;
    Ok(())
}
