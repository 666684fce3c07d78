//! Turns settings (text with an origin) into the typed configuration.

use super::{
    Config, Limits, LogConfig, LogFormat, OtlpConfig, Problem, Security, quantity, sources::Setting,
};
use crate::{audit::AuditTo, listen::Listen, quotas::Shares, telemetry::logs, tls::TlsFiles};
use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

/// What turns something off that would be a path or an address.
const OFF: &str = "off";

/// The configuration, and what is wrong: a setting that can't be used is replaced by something that can.
pub(super) fn config(settings: &[Setting]) -> (Config, Vec<Problem>) {
    let mut reader = Reader { settings, problems: Vec::new() };
    (reader.config(), reader.problems)
}

struct Reader<'s> {
    settings: &'s [Setting],
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let insecure = self.switch("insecure");
        let create_store = self.switch("create_store");
        let security = self.security();
        let listen = self.listen();
        let http_listen = self.http_listen();
        if !insecure {
            self.refuse_open(&listen, http_listen, &security);
        }
        let data_dir = self.value("data_dir", "the path of a directory", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        });
        let log = self.log();
        let otlp = self.otlp();
        let limits = self.limits();
        let drain = self.duration("drain", 0..=600);
        Config {
            listen,
            http_listen,
            security,
            data_dir: data_dir.unwrap_or_default(),
            create_store,
            log,
            otlp,
            limits,
            drain,
        }
    }

    fn log(&mut self) -> LogConfig {
        let format = self.value("log_format", "text or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let filter =
            self.value("log_level", "a level or a filter such as info,autolrs_server=debug", |text| {
                logs::filter(text).ok().map(|_| text.to_owned())
            });
        LogConfig {
            format: format.unwrap_or(LogFormat::Text),
            filter: filter.unwrap_or_default(),
            slow_decision: self.duration("slow_decision", 0..=3600),
        }
    }

    fn otlp(&mut self) -> Option<OtlpConfig> {
        let samples = self.value("otlp_sample_ratio", "a number from 0 to 1", |text| {
            text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        });
        let [ca, header_file] = ["otlp_ca", "otlp_header_file"].map(|key| self.path(key));
        if self.text("otlp_endpoint") == OFF {
            return None;
        }
        let what = "the URL of a collector's gRPC port such as http://127.0.0.1:4317, or off";
        let endpoint = self.value("otlp_endpoint", what, |text| {
            let url: http::Uri = text.parse().ok()?;
            let known = matches!(url.scheme_str(), Some("http" | "https"));
            (known && url.authority().is_some()).then(|| text.to_owned())
        })?;
        let samples_per_million = (samples.unwrap_or(1.0) * 1e6).round() as u32;
        Some(OtlpConfig { endpoint, ca, header_file, samples_per_million })
    }

    fn limits(&mut self) -> Limits {
        Limits {
            max_message: self.bytes("max_message", 65_536..=67_108_864) as usize,
            max_connections: self.number("max_connections", 1..=1_000_000) as usize,
            max_requests: self.number("max_requests", 1..=65_536) as usize,
            max_trainers: self.number("max_trainers", 1..=1_000_000) as usize,
            max_jobs: self.number("max_jobs", 1..=10_000_000) as usize,
            max_watchers: self.number("max_watchers", 1..=1_000_000) as usize,
            max_backups: self.number("max_backups", 1..=64) as usize,
            max_streams: self.number("max_streams", 1..=65_536) as u32,
            max_metadata: self.bytes("max_metadata", 4096..=1_048_576) as u32,
            shares: Shares {
                jobs: self.share("tenant_jobs", 1..=100_000_000),
                streams: self.share("tenant_streams", 1..=1_000_000),
                rate: self.share("tenant_rate", 1..=1_000_000),
            },
            mailbox: self.number("mailbox", 1..=65_536) as usize,
            request_timeout: self.duration("request_timeout", 1..=600),
            keepalive: self.duration("keepalive", 1..=3600),
            connection_age: self.duration("connection_age", 1..=2_592_000),
            connection_grace: self.duration("connection_grace", 1..=3600),
            idle: self.duration("idle", 1..=86_400),
            keep_ended: (self.text("keep_ended") != OFF)
                .then(|| self.duration("keep_ended", 1..=315_576_000)),
            history: self.number("history", 16..=1_000_000),
            disk_warning: self.bytes("disk_warning", (64 << 20)..=(1 << 50)),
            writer_silence: self.duration("writer_silence", 1..=3600),
        }
    }

    /// A whole number; none for `off`.
    fn share(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        if self.text(key) == OFF {
            return None;
        }
        let what = format!("a whole number from {} to {}, or off", range.start(), range.end());
        self.value(key, &what, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    fn listen(&mut self) -> Listen {
        let what = "an address and a port such as 127.0.0.1:7461, or unix:/path";
        let listen = self.value("listen", what, Listen::parse);
        listen.unwrap_or_else(|| Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into()))
    }

    fn http_listen(&mut self) -> Option<SocketAddr> {
        if self.text("http_listen") == OFF {
            return None;
        }
        let what = "an address and a port such as 127.0.0.1:7462, or off";
        self.value("http_listen", what, |text| text.parse().ok())
    }

    fn security(&mut self) -> Security {
        let [cert, key, client_ca] = ["tls_cert", "tls_key", "tls_client_ca"].map(|key| self.path(key));
        let tokens = self.path("tokens");
        if cert.is_some() != key.is_some() {
            let (there, lacking) =
                if cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
            self.problem(lacking, format!("is missing: {there} is set, and TLS needs both"));
        } else if client_ca.is_some() && cert.is_none() {
            self.problem(
                "tls_client_ca",
                "needs tls_cert and tls_key too: there is no mTLS without TLS".into(),
            );
        }
        let tls = cert.zip(key).map(|(cert, key)| TlsFiles { cert, key, client_ca });
        let audit = match self.path("audit") {
            None => AuditTo::Off,
            Some(path) if path.as_os_str() == "stderr" => AuditTo::Stderr,
            Some(path) => AuditTo::File(path),
        };
        Security { tls, tokens, audit }
    }

    /// Beyond loopback everyone on the network can knock: then it has to be known who does, and nobody may listen in.
    fn refuse_open(&mut self, listen: &Listen, http_listen: Option<SocketAddr>, security: &Security) {
        let tls = security.tls.is_none().then_some("TLS (tls_cert and tls_key)");
        let tokens = security.tokens.is_none().then_some("authentication (tokens)");
        let lacking: Vec<_> = tls.into_iter().chain(tokens).collect();
        let lacking = lacking.join(" and ");
        if lacking.is_empty() {
            return;
        }
        if !listen.is_private() {
            let message = format!(
                "is beyond loopback ({listen}) without {lacking}: whoever reaches the port could see, change or end \
                 jobs; set what is missing, or add --insecure if everyone on that network may"
            );
            self.problem("listen", message);
        }
        if let Some(address) = http_listen.filter(|address| !address.ip().is_loopback()) {
            let message = format!(
                "is beyond loopback ({address}), and the server is without {lacking}: whoever reaches the port could \
                 see the metrics; set what is missing, or add --insecure if everyone on that network may"
            );
            self.problem("http_listen", message);
        }
    }

    /// A path; none for `off`.
    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self
            .value(key, "the path of a file, or off", |text| (!text.is_empty()).then(|| PathBuf::from(text)));
        path.filter(|path| path.as_os_str() != OFF)
    }

    fn problem(&mut self, key: &str, message: String) {
        self.problems.push(Problem { key: key.into(), message });
    }

    fn switch(&mut self, key: &'static str) -> bool {
        self.value(key, "true or false", |text| text.parse().ok()).unwrap_or(false)
    }

    /// The duration between so many seconds, or the shortest beside a problem.
    fn duration(&mut self, key: &'static str, seconds: RangeInclusive<u64>) -> Duration {
        let range = Duration::from_secs(*seconds.start())..=Duration::from_secs(*seconds.end());
        let what = quantity::durations(&range, self.default(key));
        let value =
            self.value(key, &what, |text| quantity::duration(text).filter(|time| range.contains(time)));
        value.unwrap_or(*range.start())
    }

    /// The size in bytes, or the smallest beside a problem.
    fn bytes(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let what = quantity::sizes(&range, self.default(key));
        let value = self.value(key, &what, |text| quantity::bytes(text).filter(|size| range.contains(size)));
        value.unwrap_or(*range.start())
    }

    /// The number, or the range's start beside a problem.
    fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let value =
            self.value(key, &what, |text| text.parse::<u64>().ok().filter(|number| range.contains(number)));
        value.unwrap_or(*range.start())
    }

    fn value<T>(&mut self, key: &'static str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let Setting { knob, text, origin } = self.setting(key)?;
        let value = parse(text);
        if value.is_none() {
            let message = format!("must be {what}, is {:?} (from {origin})", knob.shown(text));
            self.problems.push(Problem { key: key.into(), message });
        }
        value
    }

    fn text(&self, key: &str) -> &str {
        self.setting(key).map_or("", |setting| &setting.text)
    }

    fn default(&self, key: &str) -> &'static str {
        self.setting(key).map_or("", |setting| setting.knob.default)
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.knob.key == key)
    }
}
