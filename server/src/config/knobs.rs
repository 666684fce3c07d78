//! Every knob of `autolrs serve` once: its key in the file, its flag, its environment variable, its default and what it
//! costs. The command line, the reader and the documentation are made from this table.

use clap::{Arg, ArgAction};
use std::borrow::Cow;

/// Prefix of the environment variables.
pub const PREFIX: &str = "AUTOLRS_";
/// What SIGHUP changes; the rest needs a restart.
const LIVE: [&str; 10] = [
    "log_level",
    "slow_decision",
    "max_requests",
    "max_trainers",
    "max_jobs",
    "mailbox",
    "idle",
    "keep_ended",
    "history",
    "drain",
];
/// OpenTelemetry's own variables, which count where nobody says otherwise; the first that is set.
pub(super) const STANDARD: &[(&str, [&str; 2])] = &[
    ("otlp_endpoint", ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
    ("otlp_ca", ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]),
];
/// How keys end whose values nobody may see.
const SECRETS: [&str; 4] = ["_token", "_secret", "_password", "_headers"];
/// What is shown instead.
const HIDDEN: &str = "(hidden)";

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Knob {
    /// Key in the file. The flag has `-` for `_`; the variable is [`PREFIX`] and the key in capitals.
    pub key: &'static str,
    /// What stands for the value in `--help`: `N` is a number, `DURATION` and `SIZE` have a unit; empty: a switch that
    /// may stand without one.
    pub value: &'static str,
    /// The value when nobody sets it.
    pub default: &'static str,
    /// Meaning, unit, range and cost.
    pub help: &'static str,
}

/// The knobs, in the order of `--help`.
pub const KNOBS: &[Knob] = &[
    Knob {
        key: "listen",
        value: "ADDRESS",
        default: "127.0.0.1:7461",
        help: "Address and port of the gRPC listener, or `unix:/path` of a socket that only this user may open",
    },
    Knob {
        key: "http_listen",
        value: "ADDRESS",
        default: "127.0.0.1:7462",
        help: "Address and port of /metrics, /livez and /readyz, or `off`; plain HTTP without a token, no job's name is in it",
    },
    Knob {
        key: "insecure",
        value: "",
        default: "false",
        help: "Allow listeners beyond loopback without TLS, without tokens, or without both",
    },
    Knob {
        key: "tls_cert",
        value: "FILE",
        default: "off",
        help: "PEM file with the certificate of the gRPC listener and its chain; read anew when it changes; or `off`",
    },
    Knob { key: "tls_key", value: "FILE", default: "off", help: "PEM file with its private key, or `off`" },
    Knob {
        key: "tls_client_ca",
        value: "FILE",
        default: "off",
        help: "PEM file with the authorities of clients' certificates: only clients with one may connect (mTLS); or `off`",
    },
    Knob {
        key: "tokens",
        value: "FILE",
        default: "off",
        help: "The token file, see `autolrs token`: only requests with one of its tokens are answered; read anew when it \
               changes; or `off`",
    },
    Knob {
        key: "audit",
        value: "FILE",
        default: "off",
        help: "Where a JSON line goes for every decision and every change that somebody asks for, with the token's id: a \
               file, `stderr`, or `off`",
    },
    Knob {
        key: "data_dir",
        value: "DIR",
        default: "autolrs-data",
        help: "Where the jobs are stored; made if absent; one server at a time",
    },
    Knob {
        key: "create_store",
        value: "",
        default: "true",
        help: "Make a store if data_dir has none; false: wait for one, so that a volume that is not mounted is never taken \
               for an empty store",
    },
    Knob {
        key: "log_format",
        value: "FORMAT",
        default: "text",
        help: "Log lines on stderr: `text` or `json`",
    },
    Knob {
        key: "log_level",
        value: "FILTER",
        default: "info",
        help: "error, warn, info, debug, trace, or a filter such as `info,autolrs_server::actor=debug`",
    },
    Knob {
        key: "slow_decision",
        value: "DURATION",
        default: "1s",
        help: "A decision that takes this long, judging and storing, has a line in the log, 0s (all) to 1h",
    },
    Knob {
        key: "otlp_endpoint",
        value: "URL",
        default: "off",
        help: "Collector of traces (OTLP over gRPC) such as http://127.0.0.1:4317, or `off`; without it OTEL_EXPORTER_OTLP_ENDPOINT \
               counts",
    },
    Knob {
        key: "otlp_sample_ratio",
        value: "N",
        default: "1",
        help: "Share of the traces that are sent, 0 to 1; a request that comes with a traceparent is sent if its caller's is",
    },
    Knob {
        key: "otlp_ca",
        value: "FILE",
        default: "off",
        help: "PEM file with the authorities of an https collector's certificate, or `off`: those of the machine",
    },
    Knob {
        key: "otlp_header_file",
        value: "FILE",
        default: "off",
        help: "File with lines `name: value`, sent to the collector as headers (an API key, say), or `off`; \
               OTEL_EXPORTER_OTLP_HEADERS counts too",
    },
    Knob {
        key: "max_message",
        value: "SIZE",
        default: "4MiB",
        help: "Largest gRPC message, 64KiB to 64MiB; each request under way may hold as much memory",
    },
    Knob {
        key: "max_connections",
        value: "N",
        default: "20000",
        help: "gRPC connections at once, 1 to 1000000; each costs about 16 KiB while it is idle; others wait",
    },
    Knob {
        key: "max_requests",
        value: "N",
        default: "1024",
        help: "Requests under way at once, 1 to 65536; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "max_trainers",
        value: "N",
        default: "10000",
        help: "Train streams at once, 1 to 1000000; each costs about 20 KiB; more are refused",
    },
    Knob {
        key: "max_jobs",
        value: "N",
        default: "20000",
        help: "Jobs in memory at once, 1 to 10000000; each costs about 20 KiB; past it the one asked longest ago leaves, but \
               none with an active trainer: if all have one, jobs that are not in memory are refused",
    },
    Knob {
        key: "max_watchers",
        value: "N",
        default: "1024",
        help: "WatchJob streams at once, 1 to 1000000; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "max_backups",
        value: "N",
        default: "2",
        help: "Backups at once, 1 to 64; each reads the whole store; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "max_streams",
        value: "N",
        default: "1024",
        help: "Requests and streams at once on one connection, 1 to 65536; a client waits for a place; a proxy may carry \
               many trainers over one connection",
    },
    Knob {
        key: "max_metadata",
        value: "SIZE",
        default: "16KiB",
        help: "Most metadata (headers) of one request, 4KiB to 1MiB; more are refused with HTTP 431",
    },
    Knob {
        key: "tenant_jobs",
        value: "N|off",
        default: "off",
        help: "Stored jobs of one tenant, 1 to 100000000, ended ones included; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "tenant_streams",
        value: "N|off",
        default: "off",
        help: "Train and WatchJob streams of one tenant at once, 1 to 1000000; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "tenant_rate",
        value: "N|off",
        default: "off",
        help: "Requests of one tenant in a second, 1 to 1000000, of which as many may come at once; reports on a Train stream \
               are none; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "mailbox",
        value: "N",
        default: "64",
        help: "Requests that may wait for one job, 1 to 65536; more are refused with RESOURCE_EXHAUSTED",
    },
    Knob {
        key: "request_timeout",
        value: "DURATION",
        default: "30s",
        help: "Longest time for one request, 1s to 10m; less than the trainers' decision time-out",
    },
    Knob {
        key: "keepalive",
        value: "DURATION",
        default: "30s",
        help: "Silence after which a connection is pinged, 1s to 1h; it is closed 20 s later if it stays silent",
    },
    Knob {
        key: "connection_age",
        value: "DURATION",
        default: "1day",
        help: "Age at which a client is asked to make a new connection, 1s to 30days: so load moves to new servers, and a \
               client that no longer reads keeps nothing",
    },
    Knob {
        key: "connection_grace",
        value: "DURATION",
        default: "5m",
        help: "Time that what is under way on an aged connection has to end, 1s to 1h; then it is closed, and a trainer's \
               stream goes on over a new one",
    },
    Knob {
        key: "idle",
        value: "DURATION",
        default: "10m",
        help: "A job that nobody asks for leaves memory after this, 1s to 1day; it comes back on demand",
    },
    Knob {
        key: "keep_ended",
        value: "DURATION",
        default: "90days",
        help: "A job that has ended is removed with its history after this, 1s to 10years; `off`: never",
    },
    Knob {
        key: "history",
        value: "N",
        default: "4096",
        help: "Newest directives of a job whose losses are kept in detail, 16 to 1000000, about 1 KiB each; of older ones 8 means \
               are kept, and every decision",
    },
    Knob {
        key: "disk_warning",
        value: "SIZE",
        default: "1GiB",
        help: "With less space on the disk of data_dir than this, 64MiB to 1PiB, log, /readyz and doctor warn; with less than \
               64MiB nothing is written",
    },
    Knob {
        key: "writer_silence",
        value: "DURATION",
        default: "1m",
        help: "A store write that takes longer counts as stuck, 1s to 1h: /livez and /readyz fail until it is done",
    },
    Knob {
        key: "drain",
        value: "DURATION",
        default: "20s",
        help: "Longest time to finish what is under way at the end, 0s to 10m; less than the grace of what stops us",
    },
];

impl Knob {
    /// The knob with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        KNOBS.iter().find(|knob| knob.key == key)
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Its flag with the dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// Whether its values are written without quotes in the file.
    pub fn is_bare(&self) -> bool {
        self.value.is_empty() || self.value == "N"
    }

    /// Whether a running server takes a new value on SIGHUP.
    pub fn is_live(&self) -> bool {
        LIVE.contains(&self.key)
    }

    /// Whether nobody may see its value: its key says so.
    pub fn is_secret(&self) -> bool {
        SECRETS.iter().any(|end| self.key.ends_with(end))
    }

    /// A value as it may be shown: a secret is hidden, and so is who logs in to a URL.
    pub fn shown<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_secret() {
            return HIDDEN.into();
        }
        match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, place)) => format!("{scheme}://{HIDDEN}@{place}").into(),
            None => text.into(),
        }
    }

    /// Its flag, for the command line.
    pub(crate) fn arg(&self) -> Arg {
        let help = format!("{} [env: {}] [default: {}]", self.help, self.variable(), self.default);
        let arg = Arg::new(self.key).long(self.key.replace('_', "-")).help(help).action(ArgAction::Set);
        if self.value.is_empty() {
            return arg
                .num_args(0..=1)
                .default_missing_value("true")
                .require_equals(true)
                .value_name("true|false");
        }
        arg.value_name(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        let knob = |key| Knob { key, value: "TEXT", default: "", help: "" };
        assert_eq!(knob("otlp_headers").shown("authorization=x"), "(hidden)");
        assert_eq!(knob("admin_token").shown("x"), "(hidden)");
        assert_eq!(knob("endpoint").shown("https://me:s3cret@host:1/p"), "https://(hidden)@host:1/p");
        assert_eq!(knob("endpoint").shown("https://host:1/p"), "https://host:1/p");
        assert_eq!(knob("token_file").shown("/etc/autolrs/tokens"), "/etc/autolrs/tokens");
    }

    #[test]
    fn the_guide_names_what_sighup_changes() {
        let guide =
            include_str!("../../../deploy/README.md").split_whitespace().collect::<Vec<_>>().join(" ");
        let live = LIVE.map(|key| format!("`{key}`")).join(", ");
        assert!(
            guide.contains(&format!("{live} change at once")),
            "deploy/README.md has to say: {live} change at once"
        );
    }
}
