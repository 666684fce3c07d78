//! What the owner of a job enters into the audit log, once it is stored.

use super::Actor;
use crate::audit::Action as Entry;
use autolrs_core::{
    directive::Action,
    job::{DirectiveRecord, Effects, End, Event, Row},
    policy::CommitNote,
};
use serde_json::{Value, json};

impl Actor {
    /// Enters an event that was judged and what was decided for it.
    pub(super) async fn audit(&self, event: &Event, effects: &Effects) {
        let (by, key) = (&self.by, &self.key);
        if let Some((entry, detail)) = asked(event) {
            self.audit.record(by, key, entry, detail).await;
        }
        for row in &effects.rows {
            match row {
                Row::Directive(record) if record.end == End::Open => {
                    self.audit.record(by, key, Entry::Decide, decided(record)).await;
                }
                Row::Commit(note) => self.audit.record(by, key, Entry::Commit, committed(note)).await,
                _ => {}
            }
        }
    }

    /// Enters something else.
    pub(super) async fn audit_as(&self, entry: Entry, detail: Value) {
        self.audit.record(&self.by, &self.key, entry, detail).await;
    }
}

/// What a person or a trainer has asked for; reports ask for nothing.
fn asked(event: &Event) -> Option<(Entry, Value)> {
    match event {
        Event::Report(_) => None,
        Event::Open(open) => {
            let detail = json!({
                "host": open.holder.host, "pid": open.holder.pid, "takeover": open.takeover, "restart": open.restart,
            });
            Some((Entry::OpenSession, detail))
        }
        Event::Update(update) => {
            let detail = json!({ "lr_override": update.change.lr, "total_steps": update.change.total_steps });
            Some((Entry::Update, detail))
        }
        Event::Finish(finish) => Some((Entry::Finish, json!({ "cooldown_steps": finish.cooldown_steps }))),
        Event::Cancel(_) => Some((Entry::Cancel, json!({}))),
    }
}

fn decided(record: &DirectiveRecord) -> Value {
    let (seq, session) = (record.directive.seq, record.session);
    match &record.directive.action {
        Action::Run(run) => {
            let (first, last) = (run.lr.first(), run.lr.last());
            json!({
                "seq": seq, "session": session, "phase": run.phase.name(), "stage": run.stage, "trial": run.trial,
                "steps": run.steps(), "lr_start": first.map(|piece| piece.start), "lr_end": last.map(|piece| piece.end),
            })
        }
        Action::Done(reason) => json!({ "seq": seq, "session": session, "done": reason.name() }),
    }
}

fn committed(note: &CommitNote) -> Value {
    json!({ "stage": note.stage, "lr": note.lr, "why": note.why })
}
