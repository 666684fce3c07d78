//! The curves of the plain schedules as pieces. Those that PyTorch has too give the LRs of its schedulers.
//!
//! A curve that ends one step short of its last LR, since the next piece begins with that (a triangle's corner, a
//! restart), is a piece of n + 1 steps of which n are run.

use crate::{
    directive::Phase,
    lr_pieces::{Piece, Shape},
    schedule,
    spec::{Milestones, PlainKind, ResolvedPlain},
};

/// The line over a budget of `total` steps. Pieces without steps may be among them.
pub(super) fn pieces(schedule: &ResolvedPlain, total: u64) -> Vec<(Phase, Piece)> {
    let lr = schedule.lr;
    let warmup = schedule.warmup_steps.min(total);
    let rest = total - warmup;
    let stable = match &schedule.kind {
        PlainKind::Constant => vec![Piece::constant(rest, lr)],
        PlainKind::Cosine { end_factor } => vec![Piece::new(rest, lr, lr * end_factor, Shape::Cosine)],
        PlainKind::Wsd { cooldown_steps } => return wsd(lr, warmup, rest, *cooldown_steps),
        PlainKind::Step { milestones, gamma } => step(lr, warmup, total, milestones, *gamma),
        PlainKind::OneCycle { pct_start, div_factor, final_div_factor } => {
            return one_cycle(lr, total, *pct_start, lr / div_factor, *final_div_factor);
        }
        PlainKind::Clr { base_lr, step_size } => clr(*base_lr, lr, total, *step_size),
        PlainKind::Replay { pieces } => schedule::fit(pieces, total),
        PlainKind::Sgdr { t0, t_mult, end_factor } => sgdr(lr, rest, *t0, *t_mult, lr * end_factor),
    };
    let stable = stable.into_iter().map(|piece| (Phase::Stable, piece));
    std::iter::once((Phase::Warmup, Piece::warmup(warmup, lr))).chain(stable).collect()
}

fn wsd(lr: f64, warmup: u64, rest: u64, cooldown_steps: u64) -> Vec<(Phase, Piece)> {
    let cooldown = cooldown_steps.min(rest);
    vec![
        (Phase::Warmup, Piece::warmup(warmup, lr)),
        (Phase::Stable, Piece::constant(rest - cooldown, lr)),
        (Phase::Cooldown, Piece::cooldown(cooldown, lr)),
    ]
}

/// lr gamma^k after the k-th milestone, from step `from` on; by repeated multiplication, like PyTorch.
fn step(mut lr: f64, from: u64, total: u64, milestones: &Milestones, gamma: f64) -> Vec<Piece> {
    let (mut pieces, mut at) = (Vec::new(), from);
    let mut fall = |milestone: u64| {
        pieces.push(Piece::constant(milestone - at, lr));
        at = milestone;
        lr *= gamma;
    };
    match milestones {
        Milestones::Every(steps) => (1..).map_while(|k| steps.checked_mul(k)).take_while(|m| *m < total).for_each(&mut fall),
        Milestones::At(steps) => steps.iter().copied().take_while(|m| *m < total).for_each(&mut fall),
    }
    pieces.push(Piece::constant(total - at, lr));
    pieces
}

/// A half cosine wave up over w = pct_start `total` steps, both ends included, and one down that begins at the rise's
/// last step.
fn one_cycle(lr: f64, total: u64, pct_start: f64, first: f64, final_div: f64) -> Vec<(Phase, Piece)> {
    let rise = (libm::round(pct_start * total as f64) as u64).min(total);
    let fall = total - rise;
    let down = Piece { index: 1, of: fall + 1, ..Piece::new(fall, lr, first / final_div, Shape::Cosine) };
    vec![(Phase::Warmup, Piece::new(rise, first, lr, Shape::Cosine)), (Phase::Stable, down)]
}

fn clr(base_lr: f64, lr: f64, total: u64, step_size: u64) -> Vec<Piece> {
    let (mut pieces, mut left, mut ends) = (Vec::new(), total, (base_lr, lr));
    while left > 0 {
        let steps = step_size.min(left);
        pieces.push(open_ended(steps, step_size, ends, Shape::Linear));
        (left, ends) = (left - steps, (ends.1, ends.0));
    }
    pieces
}

fn sgdr(lr: f64, total: u64, t0: u64, t_mult: u32, end: f64) -> Vec<Piece> {
    let (mut pieces, mut left, mut cycle) = (Vec::new(), total, t0);
    while left > 0 {
        let steps = cycle.min(left);
        pieces.push(open_ended(steps, cycle, (lr, end), Shape::Cosine));
        (left, cycle) = (left - steps, cycle.saturating_mul(u64::from(t_mult)));
    }
    pieces
}

/// The first `steps` of a curve that would reach its end after `length` steps.
fn open_ended(steps: u64, length: u64, (start, end): (f64, f64), shape: Shape) -> Piece {
    Piece { of: length.saturating_add(1), ..Piece::new(steps, start, end, shape) }
}
