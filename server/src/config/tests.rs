use super::*;
use std::io::Write;

fn read(flags: &[(&str, &str)], env: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(file.as_bytes()).unwrap();
    let flags = flags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let env = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Config::read(&flags, &env, Some(path.path()))
}

fn keys(error: &ConfigError) -> Vec<&str> {
    error.0.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn the_defaults_are_usable() {
    let config = read(&[], &[], "").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7461");
    assert_eq!(config.security, Security::default());
    assert_eq!(config.http_listen, Some("127.0.0.1:7462".parse().unwrap()));
    assert_eq!(config.limits.max_message, 4 << 20);
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let file = "mailbox = 1\nidle = \"2s\"\ndrain = \"3s\"";
    let env = [("AUTOLRS_IDLE", "20s"), ("AUTOLRS_DRAIN", "30s")];
    let config = read(&[("drain", "5m")], &env, file).unwrap();
    assert_eq!(config.limits.mailbox, 1);
    assert_eq!(config.limits.idle, Duration::from_secs(20));
    assert_eq!(config.drain, Duration::from_secs(300));
}

#[test]
fn all_errors_come_at_once_with_their_origin() {
    let file = "lisen = \"x\"\nmailbox = 0\n[limits]\nx = 1";
    let env = [("AUTOLRS_DATADIR", "x"), ("AUTOLRS_IDLE", "soon")];
    let error = read(&[("listen", "localhost"), ("log_format", "xml")], &env, file).unwrap_err();
    assert_eq!(
        keys(&error),
        ["lisen", "limits", "AUTOLRS_DATADIR", "listen", "log_format", "mailbox", "idle"]
    );
    let text = error.to_string();
    assert!(
        text.contains(
            "idle must be a duration with its unit from 1s to 1day, such as 10m, is \"soon\" (from AUTOLRS_IDLE)"
        ),
        "{text}"
    );
    assert!(text.contains("(from --listen)"), "{text}");
    assert!(text.contains(":1); did you mean listen?"), "{text}");
    assert!(
        text.contains("AUTOLRS_DATADIR is not a variable of this version; did you mean AUTOLRS_DATA_DIR?"),
        "{text}"
    );
}

#[test]
fn every_broken_line_of_a_file_is_told_with_what_else_is_wrong() {
    let file = "listen = \nmailbox = 0\ndrain = \"20s\nidle = 5\nmax_jobs = 1_0\nmax_message = 0x10000";
    let error = read(&[], &[], file).unwrap_err();
    assert_eq!(keys(&error), ["config", "config", "max_message", "mailbox", "idle"], "{error}");
    let text = error.to_string();
    assert!(text.contains(":1: ") && text.contains(":3: ") && text.contains("is \"5\" (from "), "{text}");
}

#[test]
fn each_setting_knows_who_set_it() {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(b"# one\ndrain = \"3s\"\nidle = \"2s\"\nmailbox = 0x10\n").unwrap();
    let flags = BTreeMap::from([("data_dir".to_owned(), "x".to_owned())]);
    let env = HashMap::from([("AUTOLRS_IDLE".to_owned(), "20s".to_owned())]);
    let settings = Settings::collect(&flags, &env, Some(path.path()));
    let origin = |key| {
        let setting = settings.iter().find(|setting| setting.knob.key == key).unwrap();
        (setting.text.clone(), setting.origin.to_string())
    };
    assert_eq!(origin("drain"), ("3s".into(), format!("{}:2", path.path().display())));
    assert_eq!(origin("mailbox"), ("16".into(), format!("{}:4", path.path().display())));
    assert_eq!(origin("idle"), ("20s".into(), "AUTOLRS_IDLE".into()));
    assert_eq!(origin("data_dir"), ("x".into(), "--data-dir".into()));
    assert_eq!(origin("listen"), ("127.0.0.1:7461".into(), "default".into()));
}

#[test]
fn a_broken_or_absent_file_is_one_of_the_errors() {
    let error = read(&[("drain", "x")], &[], "listen = ").unwrap_err();
    assert_eq!(keys(&error), ["config", "drain"]);
    let absent =
        Config::read(&BTreeMap::new(), &HashMap::new(), Some(Path::new("/nonexistent/autolrs.toml")));
    assert_eq!(keys(&absent.unwrap_err()), ["config"]);
}

#[test]
fn beyond_loopback_only_if_insecure() {
    let error = read(&[("listen", "0.0.0.0:1"), ("http_listen", "[::]:2")], &[], "").unwrap_err();
    assert_eq!(keys(&error), ["listen", "http_listen"]);
    assert!(error.to_string().contains("--insecure"));
    assert!(read(&[("listen", "0.0.0.0:1"), ("http_listen", "off")], &[], "insecure = true").is_ok());
}

#[test]
fn beyond_loopback_it_is_said_what_is_missing() {
    let open = |settings: &str| {
        let file = format!("listen = \"0.0.0.0:1\"\nhttp_listen = \"off\"\n{settings}");
        read(&[], &[], &file).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let tls = "tls_cert = \"c\"\ntls_key = \"k\"\n";
    let tokens = "tokens = \"t\"\n";
    assert!(
        open("").contains("without TLS (tls_cert and tls_key) and authentication (tokens)"),
        "{}",
        open("")
    );
    assert!(open(tokens).contains("without TLS (tls_cert and tls_key):"), "{}", open(tokens));
    assert!(open(tls).contains("without authentication (tokens):"), "{}", open(tls));
    assert_eq!(open(&format!("{tls}{tokens}")), "");
}

#[test]
fn tls_needs_both_its_files() {
    for (file, key) in [
        ("tls_cert = \"c\"", "tls_key"),
        ("tls_key = \"k\"", "tls_cert"),
        ("tls_client_ca = \"a\"", "tls_client_ca"),
    ] {
        assert_eq!(keys(&read(&[], &[], file).unwrap_err()), [key]);
    }
}

#[test]
fn variables_of_clients_and_of_kubernetes_are_left_alone() {
    let env = [
        ("AUTOLRS_SERVER", "http://x"),
        ("AUTOLRS_SERVICE_HOST", "10.0.0.1"),
        ("AUTOLRS_PORT_7461_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(read(&[], &env, "").is_ok());
}
