//! The limits that a request can run into, each with its setting. The guide for operators shows them as a table that a
//! test holds against this list.

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests under way.
    Requests,
    /// `Train` streams.
    Trainers,
    /// `WatchJob` streams.
    Watchers,
    /// Backups at once.
    Backups,
    /// Requests that wait for one job.
    Mailbox,
    /// Jobs in memory.
    Jobs,
    /// Requests of one tenant in a second.
    TenantRate,
    /// Streams of one tenant.
    TenantStreams,
    /// Stored jobs of one tenant.
    TenantJobs,
    /// Bytes of one message.
    Message,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Requests,
        Self::Trainers,
        Self::Watchers,
        Self::Backups,
        Self::Mailbox,
        Self::Jobs,
        Self::TenantRate,
        Self::TenantStreams,
        Self::TenantJobs,
        Self::Message,
    ];

    /// What there is only so much of.
    pub fn what(self) -> &'static str {
        match self {
            Self::Requests => "requests under way",
            Self::Trainers => "Train streams",
            Self::Watchers => "WatchJob streams",
            Self::Backups => "backups",
            Self::Mailbox => "requests that wait for one job",
            Self::Jobs => "jobs in memory",
            Self::TenantRate => "requests of one tenant in a second",
            Self::TenantStreams => "streams of one tenant",
            Self::TenantJobs => "stored jobs of one tenant",
            Self::Message => "bytes of one message",
        }
    }

    /// The key of its setting, which also names it in the metrics.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Requests => "max_requests",
            Self::Trainers => "max_trainers",
            Self::Watchers => "max_watchers",
            Self::Backups => "max_backups",
            Self::Mailbox => "mailbox",
            Self::Jobs => "max_jobs",
            Self::TenantRate => "tenant_rate",
            Self::TenantStreams => "tenant_streams",
            Self::TenantJobs => "tenant_jobs",
            Self::Message => "max_message",
        }
    }

    /// The limit of a setting.
    pub fn find(setting: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.setting() == setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::knobs::Knob, error::Error, rpc::status::status};
    use tonic::Code;
    use tonic_types::StatusExt;

    const GUIDE: &str = include_str!("../../deploy/README.md");

    /// What bounds something else than requests: what, its setting, what happens at the bound, whether to come back, and
    /// the metric that shows it.
    const OTHERS: [[&str; 5]; 6] = [
        ["connections", "max_connections", "others wait", "-", "`autolrs_connections`"],
        ["requests and streams of one connection", "max_streams", "the client waits", "-", "-"],
        ["bytes of the metadata of one request", "max_metadata", "HTTP 431", "no", "-"],
        [
            "time for one request",
            "request_timeout",
            "DEADLINE_EXCEEDED",
            "yes",
            "`grpc_server_handled_total`",
        ],
        ["silence of a connection", "keepalive", "a ping; closed 20 s later", "yes", "`autolrs_connections`"],
        [
            "age of a connection",
            "connection_age",
            "GOAWAY; closed after `connection_grace`",
            "yes",
            "`autolrs_connections_aged_total`",
        ],
    ];

    fn error(limit: Limit) -> Error {
        match limit {
            Limit::TenantJobs => Error::QuotaExceeded { limit },
            Limit::Message => Error::MessageTooLarge { detail: "x".into() },
            _ => Error::LimitReached { limit },
        }
    }

    #[test]
    fn the_guide_shows_every_limit_as_it_is() {
        let of_requests = Limit::ALL.map(|limit| {
            let status = status(&error(limit));
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.metadata["setting"], limit.setting());
            let code = match status.code() {
                Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
                Code::OutOfRange => "OUT_OF_RANGE",
                other => panic!("{other:?}"),
            };
            let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let retry = retry.map_or_else(|| "no".to_owned(), |after| format!("after {after:?}"));
            let metric = format!("`autolrs_limits_reached_total{{limit=\"{}\"}}`", limit.setting());
            let answer = format!("{code} {}", info.reason);
            [limit.what().to_owned(), limit.setting().to_owned(), answer, retry, metric]
        });
        let rows = of_requests.into_iter().chain(OTHERS.map(|row| row.map(str::to_owned)));
        let rows = rows.map(|[what, setting, answer, retry, metric]| {
            let knob = Knob::find(&setting).unwrap_or_else(|| panic!("there is no setting {setting}"));
            format!("| {what} | `{setting}` | {} | {answer} | {retry} | {metric} |\n", knob.default)
        });
        let table: String = rows.collect();
        assert!(GUIDE.contains(&table), "the table in deploy/README.md has to be\n{table}");
    }
}
