//! The search: which branches are run, in which order, and what they say.
//!
//! | symbol | meaning |
//! |---|---|
//! | `K` | points of the scan: one per decade, as many as the budget of the search allows |
//! | `h` | distance between them, in decades: the range / K |
//! | `i` | point of the scan from the top: z_i = log10 hi - h (i + 1/2) |
//!
//! 1. From the top, until the scores get worse. 2. If every branch failed: three decades further down, once. 3. Half a
//!    step to both sides of the best.

use super::{
    branch::{Branch, Finished, branch_steps, scored_steps},
    choose::{self, Choice, Point},
    scales::Scales,
};
use crate::{
    policy::{
        diverged::Diverged,
        limits::{finite, kept_bound},
    },
    spec::{LrRange, ResolvedSpec},
    stop_rules::StopIf,
};
use serde::{Deserialize, Serialize};

/// Decades by which the range is lowered when every branch failed.
const EXTENSION: f64 = 3.0;
/// Points closer than this, in decades, are the same.
const SAME: f64 = 1e-6;
/// Losses whose mean is judged where a single one has misled.
const BURST: u32 = 8;
/// Fewer branches than this tell nothing.
const LEAST_BRANCHES: u64 = 3;

/// A search under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Search {
    /// The bounds in force.
    range: LrRange,
    h: f64,
    branch_steps: u64,
    /// Losses in a score.
    n: usize,
    /// A value that the loss can't go below and has not gone below.
    bound: Option<f64>,
    order: Order,
    /// log10 LR of the branch under way.
    z: f64,
    branches: Vec<Branch>,
    /// First loss of the first branch.
    first: Option<f64>,
    /// The highest loss that stopped a branch, before one has finished.
    highest: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Order {
    Down { next: u32, end: u32, extended: bool },
    Refine { centre: f64, next: u8 },
    Over,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// A branch.
    Branch,
    /// A branch below the range, which was lowered.
    BranchBelow,
    /// Nothing: choose.
    Over,
}

/// Branches that fit into the steps that the search may use.
fn room(spec: &ResolvedSpec) -> u64 {
    spec.max_search_steps() / branch_steps(spec.budget.nominal())
}

/// Whether the budget has room for a search at all.
pub(super) fn has_room(spec: &ResolvedSpec) -> bool {
    room(spec) >= LEAST_BRANCHES
}

impl Search {
    /// A search of a spec's range; over at once where its budget has no room for one.
    pub(super) fn new(spec: &ResolvedSpec, range: LrRange) -> Self {
        let branch_steps = branch_steps(spec.budget.nominal());
        let room = room(spec);
        let decades = libm::log10(range.hi) - libm::log10(range.lo);
        let points = libm::ceil(decades - 1e-9).max(1.0).min(room.max(1) as f64);
        let down = Order::Down { next: 0, end: points as u32, extended: false };
        Self {
            range,
            h: decades / points,
            branch_steps,
            n: scored_steps(spec.budget.nominal()),
            bound: spec.loss_lower_bound,
            order: if has_room(spec) { down } else { Order::Over },
            z: 0.0,
            branches: Vec::new(),
            first: None,
            highest: None,
        }
    }

    /// Number of branches that ended.
    pub(super) fn trials(&self) -> u32 {
        self.branches.len() as u32
    }

    /// The LR of the branch under way.
    pub(super) fn branch_lr(&self) -> f64 {
        self.lr(self.z, 1.0)
    }

    /// Enters the branch under way. Its score with its standard deviation, none if it was stopped.
    pub(super) fn tell(&mut self, losses: &[f64], finished: bool) -> Option<(f64, f64)> {
        self.bound = kept_bound(self.bound, losses);
        self.first = self.first.or(losses.first().copied());
        if !finished && let Some(limit) = self.limit_over_first() {
            let stopped_at = losses.iter().copied().find(|loss| *loss > limit);
            self.highest = stopped_at.filter(|loss| loss.is_finite()).or(self.highest);
        }
        let finished = if finished { Finished::new(losses, self.n, self.bound) } else { None };
        self.branches.push(Branch { z: self.z, finished });
        finished.map(|f| (f.score, f.noise / (self.n as f64).sqrt()))
    }

    /// No further branch.
    pub(super) fn close(&mut self) {
        self.order = Order::Over;
    }

    /// The next branch, if the `steps_left` of the search's budget have room for it.
    pub(super) fn next(&mut self, steps_left: u64) -> Step {
        if steps_left < self.branch_steps {
            self.order = Order::Over;
        }
        loop {
            match self.order {
                Order::Over => return Step::Over,
                Order::Down { next, end, extended } if next < end && !self.worsens() => {
                    self.order = Order::Down { next: next + 1, end, extended };
                    self.z = self.point(next);
                    return Step::Branch;
                }
                Order::Down { end, extended, .. } => match self.best_improving() {
                    Some(best) => self.order = Order::Refine { centre: best, next: 0 },
                    None if extended => self.order = Order::Over,
                    None => {
                        let more = libm::floor(EXTENSION / self.h + 0.5 + 1e-9) as u32;
                        if more == 0 {
                            self.order = Order::Over;
                            continue;
                        }
                        self.range.lo = (self.range.lo / 1000.0).max(f64::MIN_POSITIVE);
                        self.order = Order::Down { next: end + 1, end: end + more, extended: true };
                        self.z = self.point(end);
                        return Step::BranchBelow;
                    }
                },
                Order::Refine { centre, next } if next < 2 => {
                    self.order = Order::Refine { centre, next: next + 1 };
                    let side = if next == 0 { self.h / 2.0 } else { -self.h / 2.0 };
                    let z = (centre + side).clamp(libm::log10(self.range.lo), libm::log10(self.range.hi));
                    if self.branches.iter().all(|b| (b.z - z).abs() > SAME) {
                        self.z = z;
                        return Step::Branch;
                    }
                }
                Order::Refine { .. } => self.order = Order::Over,
            }
        }
    }

    /// The rules that stop the next branch, besides a non-finite loss.
    pub(super) fn stop_if(&self) -> Option<StopIf> {
        if let Some(scales) = self.scales() {
            return Some(StopIf::Above { limit: scales.branch_limit(), from: 0 });
        }
        match (self.bound, self.highest, self.limit_over_first()) {
            // What has stopped a branch may have been a burst of noise, which one loss can't tell from an explosion.
            (Some(_), Some(_), Some(limit)) => Some(StopIf::MeanAbove { last: BURST, limit, from: 0 }),
            (Some(0.0), ..) => Some(StopIf::AboveFirst { factor: 4.0, floor: 0.0, from: 0 }),
            (Some(_), _, Some(limit)) => Some(StopIf::Above { limit, from: 0 }),
            _ => None,
        }
    }

    /// What stops a branch while none has finished: first + 4 max(abs first, highest - first), abs the distance from the
    /// bound. A loss that was seen once may be seen again, whatever its unit: that is the only scale there is by then.
    fn limit_over_first(&self) -> Option<f64> {
        let (bound, first) = (self.bound?, self.first?);
        let seen = self.highest.map_or(0.0, |highest| finite(highest - first));
        Some(finite(first + 4.0 * finite(first - bound).abs().max(seen)))
    }

    /// Known once a branch has finished.
    pub(super) fn scales(&self) -> Option<Scales> {
        self.scales_by(&self.best()?.1)
    }

    /// As they would be if `best` were the best branch.
    fn scales_by(&self, best: &Finished) -> Option<Scales> {
        let (_, lowest) = self.finished().reduce(|low, b| if b.0 < low.0 { b } else { low })?;
        Some(Scales::new(lowest.head, best.score, (best.noise, best.rough), self.bound))
    }

    /// z of the best branch that finished, and the branch; of equal ones the lowest LR. One whose own noise hides whether
    /// it learnt anything, as at an LR where the loss leaps before it falls, is best only where no other did.
    pub(super) fn best(&self) -> Option<(f64, Finished)> {
        let least = |best: (f64, Finished), b: (f64, Finished)| {
            let better = b.1.score < best.1.score || b.1.score == best.1.score && b.0 < best.0;
            if better { b } else { best }
        };
        let learnt = self.finished().filter(|(_, finished)| self.learnt(finished));
        learnt.reduce(least).or_else(|| self.finished().reduce(least))
    }

    /// Whether a branch's score is below loss0 - 3 s / sqrt n, by its own noise.
    fn learnt(&self, branch: &Finished) -> bool {
        let below = |scales: Scales| scales.loss0 - 3.0 * scales.s / (self.n as f64).sqrt();
        self.scales_by(branch).is_some_and(|scales| branch.score < below(scales))
    }

    fn finished(&self) -> impl Iterator<Item = (f64, Finished)> {
        self.branches.iter().filter_map(|b| b.finished.map(|finished| (b.z, finished)))
    }

    /// What would be committed now.
    pub(super) fn provisional(&self, lr_factor: f64, spec: &ResolvedSpec) -> f64 {
        self.best().map_or(spec.fallback_lr, |(z, _)| self.lr(z, lr_factor))
    }

    /// The choice; none if every branch failed.
    pub(super) fn choose(&self) -> Option<Choice> {
        self.best_improving()?;
        let (cap, (_, best)) = (self.cap()?, self.best()?);
        let score = |finished: Finished| if finished.score < best.score { cap } else { finished.score.min(cap) };
        let point = |b: &Branch| Point { z: b.z, score: b.finished.map_or(cap, score) };
        let mut points: Vec<Point> = self.branches.iter().map(point).collect();
        points.sort_by(|a, b| a.z.total_cmp(&b.z));
        choose::choose(&points)
    }

    /// See [`Scales::bound`].
    pub(super) fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// The bounds in force.
    pub(super) fn range(&self) -> LrRange {
        self.range
    }

    /// The LR at `z`, times `factor`, in the bounds in force.
    pub(super) fn lr(&self, z: f64, factor: f64) -> f64 {
        (factor * libm::pow(10.0, z)).clamp(self.range.lo, self.range.hi)
    }

    /// The LRs of the branches that were stopped.
    pub(super) fn stopped(&self) -> Diverged {
        self.branches.iter().filter(|b| b.finished.is_none()).map(|b| self.lr(b.z, 1.0)).collect()
    }

    /// Whether `z` is the highest that was tried.
    pub(super) fn is_highest(&self, z: f64) -> bool {
        self.branches.iter().all(|b| b.z <= z)
    }

    fn point(&self, i: u32) -> f64 {
        libm::log10(self.range.hi) - self.h * (f64::from(i) + 0.5)
    }

    /// Whether the scan has seen enough: an earlier branch learnt something, and the last one is worse.
    fn worsens(&self) -> bool {
        let (Some(scales), Some(last)) = (self.scales(), self.branches.last()) else { return false };
        let gain = scales.gain();
        let cap = self.cap().unwrap_or(f64::MAX);
        let score = last.finished.map_or(cap, |f| f.score.min(cap));
        gain > (0.1 * scales.unit()).max(3.0 * scales.s) && score > scales.best + 0.1 * gain
    }

    /// z of the best branch, if it learnt something.
    fn best_improving(&self) -> Option<f64> {
        let (z, best) = self.best()?;
        let gain = self.scales()?.gain();
        (self.learnt(&best) && self.lr_matters(z, best.score, gain)).then_some(z)
    }

    /// Whether the best branch, at `z`, did otherwise than one at a far lower LR: what all of them gain on the same
    /// batches is those batches' doing. The lowest branch, if it is the best, is compared with the one above it.
    fn lr_matters(&self, z: f64, best: f64, gain: f64) -> bool {
        let others = self.finished().filter(|(other, _)| *other != z);
        let lowest = others.reduce(|low, other| if other.0 < low.0 { other } else { low });
        lowest.is_none_or(|(_, other)| other.score - best >= 0.01 * gain)
    }

    /// The highest score: loss0 + 3 s / sqrt n.
    fn cap(&self) -> Option<f64> {
        let scales = self.scales()?;
        Some(finite(scales.loss0 + 3.0 * scales.s / (self.n as f64).sqrt()))
    }
}
