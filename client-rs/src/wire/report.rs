//! Reports and resumes into messages, answers out of them.

use super::{
    Unreadable,
    directive::{directive, slot_message, slot_ops},
};
use autolrs_core::job::{Ack, Opened, Report, Resume, StoppedBecause};
use autolrs_proto::v1::{self, stopped_because::Cause};

pub(crate) fn report(job: &str, report: Report) -> v1::Report {
    let validations = report.validations.iter().map(|v| v1::Validation { offset: v.offset, loss: v.loss });
    v1::Report {
        job: job.to_owned(),
        session: report.session,
        seq: report.seq,
        first_offset: report.first_offset,
        validations: validations.collect(),
        train_losses: report.train_losses,
        finished: report.finished,
        stopped_because: report.stopped_because.map(stopped_because),
        at_rung: report.at_rung,
    }
}

fn stopped_because(because: StoppedBecause) -> v1::StoppedBecause {
    let cause = match because {
        StoppedBecause::Rule(stop) => {
            Cause::StopRule(v1::stopped_because::StopRule { rule: stop.rule, offset: stop.offset })
        }
        StoppedBecause::Interrupt(number) => Cause::Interrupt(number),
        StoppedBecause::NoAnswer => Cause::NoAnswer(v1::stopped_because::NoAnswer {}),
    };
    v1::StoppedBecause { cause: Some(cause) }
}

pub(crate) fn ack(message: v1::Ack) -> Result<Ack, Unreadable> {
    Ok(Ack {
        session: message.session,
        seq: message.seq,
        received_through: message.received_through,
        durable_seq: message.durable_seq,
        directive: message.directive.map(directive).transpose()?,
        interrupt: message.interrupt,
        go_on: message.go_on,
    })
}

pub(crate) fn resume(resume: &Resume) -> v1::Resume {
    v1::Resume {
        uid: format!("{:016x}", resume.uid),
        seq: resume.seq,
        offset: resume.offset,
        slots: resume.slots.iter().map(|slot| slot_message(*slot).into()).collect(),
    }
}

pub(crate) fn opened(message: v1::OpenSessionResponse) -> Result<Opened, Unreadable> {
    Ok(Opened {
        session: message.session,
        directive: directive(message.directive.ok_or(Unreadable("directive"))?)?,
        received_through: message.received_through,
        slot_ops: slot_ops(&message.slot_ops)?,
        uid: u64::from_str_radix(&message.uid, 16).map_err(|_| Unreadable("uid"))?,
        switch_every: message.switch_every.max(1),
    })
}
