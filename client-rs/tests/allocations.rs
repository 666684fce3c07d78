//! A step allocates nothing: room for a directive's losses is made when it begins.

use autolrs_client::{Status, session::Machine};
use autolrs_core::{
    directive::{Action, Batches, Directive, Phase, Run},
    job::Opened,
    lr_pieces::Piece,
    stop_rules::StopIf,
};

fn machine(steps: u64, switch_every: u64) -> Machine {
    let run = Run {
        phase: Phase::Stable,
        batches: Batches::Fresh,
        lr: vec![Piece::warmup(steps / 2, 0.1), Piece::cooldown(steps - steps / 2, 0.1)],
        stop_if: vec![
            StopIf::NonFinite,
            StopIf::MeanAbove { last: 10, limit: 100.0, from: 0 },
            StopIf::EmaAbove { decay: 0.95, start_value: 0.0, limit: 100.0, from: 0 },
        ],
        stage: 0,
        trial: None,
        validate_at: Vec::new(),
        rungs: Vec::new(),
    };
    let directive = Directive {
        seq: 1,
        slot_ops: Vec::new(),
        action: Action::Run(run),
        committed_step_at_start: 0,
        fallback: None,
        fallback_on_stop: None,
    };
    let opened =
        Opened { session: 1, directive, received_through: 0, slot_ops: Vec::new(), uid: 1, switch_every };
    Machine::open("job", 0.1, opened)
}

#[test]
fn recording_a_loss_allocates_nothing() {
    let mut machine = machine(65_536, 1);
    let counted = allocation_counter::measure(|| while machine.record(1.0) != Status::Ended {});
    assert_eq!((machine.offset(), counted.count_total), (65_536, 0));
}

#[test]
fn late_losses_allocate_nothing() {
    let mut machine = machine(65_536, 8);
    let counted = allocation_counter::measure(|| {
        loop {
            match machine.tick() {
                Status::WantLosses => machine.losses(&[1.0; 8]),
                Status::Ended => break,
                Status::GoOn | Status::LrChanged | Status::Validate => {}
            }
        }
    });
    assert_eq!((machine.offset(), counted.count_total), (65_536, 0));
}
