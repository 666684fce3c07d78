//! Reports and their answers.

use super::{Violations, directive};
use crate::error::Error;
use autolrs_core::{
    job::{Ack, Report, StoppedBecause, Validation},
    stop_rules::Stop,
};
use autolrs_proto::v1 as pb;

/// The job's name and the report.
pub(in crate::rpc) fn decode(wire: Option<pb::Report>) -> Result<(String, Report), Error> {
    let mut violations = Violations::default();
    let Some(wire) = wire else {
        violations.add("report", "must be set");
        return violations.finish("", None);
    };
    violations.name("report.job", &wire.job);
    if wire.session == 0 {
        violations.add("report.session", "must be the session's number, is 0");
    }
    if wire.seq == 0 {
        violations.add("report.seq", "must be the directive's number, is 0");
    }
    let stopped_because = wire.stopped_because.and_then(|stopped| {
        let cause = cause(stopped);
        if cause.is_none() {
            violations.add("report.stopped_because", "must name a cause of this version");
        }
        cause
    });
    let report = Report {
        session: wire.session,
        seq: wire.seq,
        first_offset: wire.first_offset,
        train_losses: wire.train_losses,
        validations: wire.validations.iter().map(|v| Validation { offset: v.offset, loss: v.loss }).collect(),
        finished: wire.finished,
        stopped_because,
        at_rung: wire.at_rung,
    };
    violations.finish(&wire.job.clone(), Some((wire.job, report)))
}

fn cause(wire: pb::StoppedBecause) -> Option<StoppedBecause> {
    use pb::stopped_because::Cause;
    Some(match wire.cause? {
        Cause::StopRule(stop) => StoppedBecause::Rule(Stop { rule: stop.rule, offset: stop.offset }),
        Cause::Interrupt(number) => StoppedBecause::Interrupt(number),
        Cause::NoAnswer(_) => StoppedBecause::NoAnswer,
    })
}

/// A validation loss.
pub(super) fn validation(validation: Validation) -> pb::Validation {
    pb::Validation { offset: validation.offset, loss: validation.loss }
}

/// The answer to a report.
pub(in crate::rpc) fn encode(ack: &Ack) -> pb::Ack {
    pb::Ack {
        session: ack.session,
        seq: ack.seq,
        received_through: ack.received_through,
        durable_seq: ack.durable_seq,
        directive: ack.directive.as_ref().map(|d| directive::encode(d, ack.session)),
        interrupt: ack.interrupt,
        go_on: ack.go_on,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fields, *};

    #[test]
    fn a_report_is_taken_as_it_is() {
        let rule = pb::stopped_because::StopRule { rule: 1, offset: 17 };
        let cause = Some(pb::stopped_because::Cause::StopRule(rule));
        let wire = pb::Report {
            job: "j".into(),
            session: 1,
            seq: 2,
            first_offset: 3,
            train_losses: vec![f64::NAN, f64::INFINITY, -1.0],
            validations: vec![pb::Validation { offset: 4, loss: 0.5 }],
            finished: true,
            stopped_because: Some(pb::StoppedBecause { cause }),
            at_rung: false,
        };
        let (name, report) = decode(Some(wire)).unwrap();
        assert_eq!((name.as_str(), report.seq, report.first_offset), ("j", 2, 3));
        assert!(report.train_losses[0].is_nan() && report.finished);
        assert_eq!(report.validations, [Validation { offset: 4, loss: 0.5 }]);
        assert_eq!(report.stopped_because, Some(StoppedBecause::Rule(Stop { rule: 1, offset: 17 })));
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let stopped_because = Some(pb::StoppedBecause { cause: None });
        let wire = pb::Report { stopped_because, ..pb::Report::default() };
        let expected = ["report.job", "report.session", "report.seq", "report.stopped_because"];
        assert_eq!(fields(decode(Some(wire))), expected);
        assert_eq!(fields(decode(None)), ["report"]);
    }
}
