//! What a picture shows, read from the server's answers.

use autolrs_core::lr_pieces::Piece;
use autolrs_proto::v1::{Commit, Job, Phase, Stage, Stretch};

/// Most points of a curved piece of the LR line.
const CURVE_POINTS: u64 = 200;
/// Means that a noisy line of losses is drawn with.
const MEANS: usize = 150;
/// Bins of a stretch: see `Stretch.losses` in the proto.
const BINS: u64 = 128;

/// A point: a step, or an LR; and a loss, or an LR.
pub(super) type Point = (f64, f64);

/// A job with all that explains it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Run {
    /// The job.
    pub(in crate::cli) job: Job,
    /// Its stages with their searches.
    pub(in crate::cli) stages: Vec<Stage>,
    /// The LR of every step that was kept.
    pub(in crate::cli) pieces: Vec<Piece>,
    /// Commits, all of them.
    pub(in crate::cli) commits: Vec<Commit>,
    /// What was run and measured.
    pub(in crate::cli) stretches: Vec<Stretch>,
}

impl Run {
    /// Whether there is anything to draw, and the searches of `stages` are among it.
    pub(in crate::cli) fn check(&self, stages: &[u32]) -> Result<(), String> {
        let searches = self.searches();
        if self.stretches.is_empty() && searches.is_empty() {
            return Err(format!("job {} has nothing to draw yet: no step was reported", self.job.name));
        }
        match stages.iter().find(|&&wanted| searches.iter().all(|stage| stage.stage != wanted)) {
            Some(stage) => Err(format!("job {} has no search in stage {stage}", self.job.name)),
            None => Ok(()),
        }
    }

    /// The last step of the steps' axis, which is the same for LR and loss; never 0.
    pub(super) fn last_step(&self) -> f64 {
        let end = self.stretches.iter().map(|s| s.start_step + s.steps).max().unwrap_or(0);
        end.max(1) as f64
    }

    /// The LR over the kept steps; a line per stretch of LRs above 0.
    pub(super) fn lr_lines(&self) -> Vec<Vec<Point>> {
        let mut start = 0;
        let mut points = Vec::new();
        for piece in &self.pieces {
            let last = piece.steps - 1;
            let count = if piece.start == piece.end { 1 } else { last.clamp(1, CURVE_POINTS) };
            let offsets = (0..=count).map(|i| (i as f64 / count as f64 * last as f64).round() as u64);
            points.extend(offsets.map(|i| ((start + i) as f64, piece.lr(i))));
            start += piece.steps;
        }
        points.dedup();
        unbroken(points, |lr| lr > 0.0)
    }

    /// Runs of kept steps with one phase.
    pub(super) fn phases(&self) -> Vec<(Phase, f64, f64)> {
        let mut phases: Vec<(Phase, f64, f64)> = Vec::new();
        for stretch in self.kept() {
            let (from, to) = (stretch.start_step as f64, (stretch.start_step + stretch.steps) as f64);
            match phases.last_mut() {
                Some(last) if last.0 == stretch.phase() => last.2 = to,
                _ => phases.push((stretch.phase(), from, to)),
            }
        }
        phases
    }

    /// Where each committed LR is reached. One that only goes on is left out, and one that was never kept.
    pub(super) fn commit_points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for commit in &self.commits {
            let goes_on = points.last().is_some_and(|last| last.1 == commit.lr);
            let reached = self.corners(commit.stage).find(|corner| (corner.1 / commit.lr - 1.0).abs() < 1e-9);
            points.extend(reached.filter(|_| !goes_on));
        }
        points
    }

    /// First and last step of every piece of the LR line, as far as they are in a stage.
    fn corners(&self, stage: u32) -> impl Iterator<Item = Point> {
        let mut end = 0;
        let pieces = self.pieces.iter().map(move |piece| {
            end += piece.steps;
            (end - piece.steps, end, piece)
        });
        pieces.flat_map(move |(from, to, piece)| {
            let parts = self.kept().filter(move |s| s.stage == stage);
            let parts = parts.map(move |s| (s.start_step.max(from), (s.start_step + s.steps).min(to)));
            let steps = parts.filter(|(from, to)| from < to).flat_map(|(from, to)| [from, to - 1]);
            steps.map(move |step| (step as f64, piece.lr(step - from)))
        })
    }

    /// Mean training losses of the kept steps; broken where a loss is not finite.
    pub(super) fn kept_losses(&self) -> Vec<Vec<Point>> {
        unbroken(self.kept().flat_map(losses).collect(), f64::is_finite)
    }

    /// Means of those over shares of the axis, where there are enough.
    pub(super) fn mean_losses(&self) -> Vec<Vec<Point>> {
        let width = self.last_step() / MEANS as f64;
        let runs = self.kept_losses().into_iter().filter(|run| run.len() > MEANS);
        let bins = |run: Vec<Point>| {
            let same = run.chunk_by(|a, b| (a.0 / width).floor() == (b.0 / width).floor());
            let mean =
                |bin: &[Point], of: fn(&Point) -> f64| bin.iter().map(of).sum::<f64>() / bin.len() as f64;
            same.map(|bin| (mean(bin, |p| p.0), mean(bin, |p| p.1))).collect()
        };
        runs.map(bins).collect()
    }

    /// Stretches that were kept, in order.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(|stretch| !stretch.lost)
    }

    /// Stretches that a guard rolled back, in order.
    pub(super) fn lost(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(|stretch| stretch.lost)
    }

    /// Validation losses of the kept steps.
    pub(super) fn validations(&self) -> Vec<Point> {
        let of = |s: &Stretch| {
            let start = s.start_step;
            s.validations.iter().map(|v| ((start + v.offset) as f64, v.loss)).collect::<Vec<_>>()
        };
        self.kept().flat_map(of).filter(|point| point.1.is_finite()).collect()
    }

    /// Stages that were forecast, and where they ended: (step, stage).
    pub(super) fn forecasts(&self) -> Vec<(f64, &Stage)> {
        let end = |number| self.kept().filter(|s| s.stage == number).map(|s| s.start_step + s.steps).max();
        let forecast = self.stages.iter().filter(|stage| stage.forecast.is_some());
        forecast.filter_map(|stage| Some((end(stage.stage)? as f64, stage))).collect()
    }

    /// The stages that have a search.
    pub(super) fn searches(&self) -> Vec<&Stage> {
        self.stages.iter().filter(|stage| !stage.trials.is_empty()).collect()
    }
}

/// The mean losses of a stretch, each at the middle of its bin.
pub(super) fn losses(stretch: &Stretch) -> Vec<Point> {
    means(&stretch.losses, stretch.steps, BINS)
        .into_iter()
        .map(|(x, y)| (stretch.start_step as f64 + x, y))
        .collect()
}

/// The mean losses of `steps` steps, each at the middle of its bin.
pub(super) fn means(losses: &[f64], steps: u64, bins: u64) -> Vec<Point> {
    let width = steps.div_ceil(bins).max(1);
    let middle = |i: u64| {
        let (from, to) = (i * width, ((i + 1) * width).min(steps.max(i * width + 1)));
        (from + to) as f64 / 2.0
    };
    (0..).map(middle).zip(losses.iter().copied()).collect()
}

/// Runs of points whose value is good.
pub(super) fn unbroken(points: Vec<Point>, good: impl Fn(f64) -> bool) -> Vec<Vec<Point>> {
    points.split(|point| !good(point.1)).filter(|run| !run.is_empty()).map(<[Point]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::v1::Validation;

    fn stretch(stage: u32, phase: Phase, start_step: u64, steps: u64, lost: bool) -> Stretch {
        let losses = vec![1.0; usize::try_from(steps.min(128)).unwrap()];
        let validations = vec![Validation { offset: steps, loss: 0.5 }];
        Stretch { stage, phase: phase.into(), start_step, steps, lost, lr: 0.1, losses, validations }
    }

    fn run() -> Run {
        Run {
            job: Job::default(),
            stages: vec![Stage { stage: 1, forecast: Some(0.4), ..Stage::default() }],
            pieces: vec![Piece::warmup(3, 0.3), Piece::constant(7, 0.1)],
            commits: vec![
                Commit { stage: 0, lr: 0.3 },
                Commit { stage: 1, lr: 0.1 },
                Commit { stage: 2, lr: 0.1 },
            ],
            stretches: vec![
                stretch(0, Phase::Warmup, 0, 3, false),
                stretch(1, Phase::Stable, 3, 2, false),
                stretch(1, Phase::Stable, 5, 4, true),
                stretch(1, Phase::Stable, 5, 5, false),
            ],
        }
    }

    #[test]
    fn the_line_has_its_corners_and_no_zeros() {
        assert_eq!(
            run().lr_lines(),
            [[
                (0.0, 0.3 / 3.0),
                (1.0, 0.3 / 3.0 + (0.3 - 0.3 / 3.0) * 0.5),
                (2.0, 0.3),
                (3.0, 0.1),
                (9.0, 0.1)
            ]]
        );
        let to_zero = Piece::new(3, 0.2, 0.0, autolrs_core::lr_pieces::Shape::Linear);
        assert_eq!(Run { pieces: vec![to_zero], ..run() }.lr_lines(), [[(0.0, 0.2), (1.0, 0.1)]]);
    }

    #[test]
    fn phases_commits_and_ends_are_where_the_kept_steps_are() {
        let run = run();
        assert_eq!(run.phases(), [(Phase::Warmup, 0.0, 3.0), (Phase::Stable, 3.0, 10.0)]);
        assert_eq!(run.commit_points(), [(2.0, 0.3), (3.0, 0.1)]);
        let halved = Commit { stage: 1, lr: 0.05 };
        assert_eq!(Run { commits: vec![halved], ..run.clone() }.commit_points(), [], "it was never kept");
        assert_eq!(run.forecasts().iter().map(|f| f.0).collect::<Vec<_>>(), [10.0]);
        assert_eq!(run.validations(), [(3.0, 0.5), (5.0, 0.5), (10.0, 0.5)]);
        assert_eq!(run.last_step(), 10.0);
        assert_eq!(run.lost().count(), 1);
    }

    #[test]
    fn a_long_line_has_means() {
        assert_eq!(run().mean_losses(), Vec::<Vec<Point>>::new());
        let alternating = (0..128).map(|i| f64::from(i % 2)).collect::<Vec<_>>();
        let of = |start_step| Stretch {
            losses: alternating.clone(),
            ..stretch(0, Phase::Stable, start_step, 128, false)
        };
        let means = Run { stretches: (0..5).map(|i| of(128 * i)).collect(), ..run() }.mean_losses();
        assert!(
            means[0].len() == MEANS && means[0].iter().all(|mean| (0.3..0.7).contains(&mean.1)),
            "{means:?}"
        );
    }

    #[test]
    fn bins_stand_at_their_middles() {
        assert_eq!(means(&[1.0, 2.0], 2, 128), [(0.5, 1.0), (1.5, 2.0)]);
        // 130 steps in bins of 2; the last bin is whole, that of 131 steps is not.
        assert_eq!(means(&[0.0; 65], 130, 128)[64].0, 129.0);
        assert_eq!(means(&[0.0; 66], 131, 128)[65].0, 130.5);
        let broken = unbroken(vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)], f64::is_finite);
        assert_eq!(broken, [vec![(0.0, 1.0)], vec![(2.0, 3.0)]]);
    }
}
