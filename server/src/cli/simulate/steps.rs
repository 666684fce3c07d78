//! The steps of a simulated run as CSV. Numbers are read back to the bit.

use autolrs_core::simulate::Trace;
use std::io::{self, BufWriter, Write};

/// One line per step that was run, in order.
pub(super) fn write(out: impl Write, trace: &Trace) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    writeln!(out, "step,directive,phase,stage,trial,lr,loss,kept")?;
    for segment in &trace.segments {
        let trial = segment.trial.map(|trial| trial.to_string()).unwrap_or_default();
        let (seq, phase, stage) = (segment.seq, segment.phase.name(), segment.stage);
        for (i, step) in (segment.first..).zip(trace.steps_of(segment)) {
            writeln!(
                out,
                "{i},{seq},{phase},{stage},{trial},{:e},{:e},{}",
                step.lr, step.loss, segment.kept
            )?;
        }
    }
    out.flush()
}
