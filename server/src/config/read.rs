//! Turns settings (text with an origin) into the typed configuration.

use super::{Config, Limits, LogConfig, LogFormat, Problem, quantity, sources::Setting};
use crate::telemetry::logs;
use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

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
        let listen = self.address("listen", insecure);
        let off = self.text("http_listen") == "off";
        let http_listen = (!off).then(|| self.address("http_listen", insecure));
        let data_dir = self.value("data_dir", "the path of a directory", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        });
        let log = self.log();
        let limits = self.limits();
        let drain = self.duration("drain", 0..=600);
        Config {
            listen,
            http_listen,
            data_dir: data_dir.unwrap_or_default(),
            create_store,
            log,
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

    fn limits(&mut self) -> Limits {
        Limits {
            max_message: self.bytes("max_message", 65_536..=67_108_864) as usize,
            max_connections: self.number("max_connections", 1..=1_000_000) as usize,
            max_requests: self.number("max_requests", 1..=65_536) as usize,
            max_trainers: self.number("max_trainers", 1..=1_000_000) as usize,
            max_jobs: self.number("max_jobs", 1..=10_000_000) as usize,
            mailbox: self.number("mailbox", 1..=65_536) as usize,
            request_timeout: self.duration("request_timeout", 1..=600),
            keepalive: self.duration("keepalive", 1..=3600),
            idle: self.duration("idle", 1..=86_400),
            writer_silence: self.duration("writer_silence", 1..=3600),
        }
    }

    fn address(&mut self, key: &'static str, insecure: bool) -> SocketAddr {
        let what = if key == "listen" {
            "an address and a port such as 127.0.0.1:7461"
        } else {
            "an address and a port such as 127.0.0.1:7462, or off"
        };
        let Some(address) = self.value(key, what, |text| text.parse::<SocketAddr>().ok()) else {
            return (Ipv4Addr::LOCALHOST, 0).into();
        };
        if !address.ip().is_loopback() && !insecure {
            let message = format!(
                "is beyond loopback ({address}): there is no TLS and no authentication yet, so whoever reaches the \
                 port can read and end every job; add --insecure if everyone on that network may"
            );
            self.problems.push(Problem { key: key.into(), message });
        }
        address
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
