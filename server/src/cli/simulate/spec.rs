//! A job as a TOML file: the names of `JobSpec` in the proto, the policy as a table of its own.

use autolrs_core::spec::{JobSpec, ResolvedSpec, resolve};
use toml::{Table, Value};

/// Fields of a job that are tables without being policies.
const OTHER_TABLES: [&str; 2] = ["labels", "open_budget"];

/// The job as asked for and as resolved, or everything that is wrong with it, each with the field's name.
pub fn read(text: &str) -> Result<(JobSpec, ResolvedSpec), Vec<String>> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
    let (table, policy) = shaped(table).map_err(|problem| vec![problem])?;
    let spec: JobSpec = Value::Table(table).try_into().map_err(|error| vec![said(&error, &policy)])?;
    let resolved = resolve(&spec);
    resolved
        .map(|resolved| (spec, resolved))
        .map_err(|found| found.into_iter().map(|v| format!("{} {}", v.field, v.description)).collect())
}

/// In the shape of the core's type: what is a choice in the proto is an enum there. With the policy's name, if it has
/// one.
fn shaped(mut table: Table) -> Result<(Table, String), String> {
    let tables =
        table.iter().filter(|(key, value)| value.is_table() && !OTHER_TABLES.contains(&key.as_str()));
    let policies: Vec<String> = tables.map(|(key, _)| key.clone()).collect();
    if table.contains_key("policy") {
        return Err("policy is not a field: name the policy by its table, such as [cosine]".into());
    }
    if policies.len() > 1 {
        return Err(format!("a job has one policy, not {}", policies.join(" and ")));
    }
    let policy = policies.into_iter().next().unwrap_or_default();
    if let Some(options) = table.remove(&policy) {
        table.insert("policy".into(), Value::Table([(policy.clone(), options)].into_iter().collect()));
    }
    let bound = table.remove("loss_lower_bound");
    let unbounded = match table.remove("loss_unbounded") {
        None => false,
        Some(Value::Boolean(unbounded)) => unbounded,
        Some(_) => return Err("loss_unbounded must be true or false".into()),
    };
    let bound = match (bound, unbounded) {
        (None, false) => return Ok((table, policy)),
        (Some(_), true) => return Err("loss_lower_bound and loss_unbounded exclude each other".into()),
        (Some(at), false) => Value::Table([("at".to_owned(), at)].into_iter().collect()),
        (None, true) => Value::String("none".into()),
    };
    table.insert("loss_lower_bound".into(), bound);
    Ok((table, policy))
}

/// On one line, with the path as in the file.
fn said(error: &toml::de::Error, policy: &str) -> String {
    let text = error.to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = line.strip_prefix(&format!("unknown variant `{policy}`")) {
        return format!("unknown policy `{policy}`{}", rest.trim_end_matches(" in `policy`"));
    }
    let line =
        line.replace("`policy", &format!("`{policy}")).replace("loss_lower_bound.at", "loss_lower_bound");
    // The policy is a key and, below it, its own name.
    line.replace(&format!("`{policy}.{policy}"), &format!("`{policy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_core::{
        forecast::Forecaster,
        spec::{Budget, LossBound, PaperOptions, PolicySpec, ScanOptions},
    };

    const BASE: &str = "total_steps = 1000\nfallback_lr = 0.1\nlr_min = 0.001\nlr_max = 1\n";

    fn problems(more: &str) -> Vec<String> {
        read(&format!("{BASE}{more}")).unwrap_err()
    }

    #[test]
    fn every_field_has_the_name_of_the_proto() {
        let more = "seed = 3\nmax_overhead = 0.2\nswitch_every = 8\nguard = false\nloss_unbounded = true\n\
                    [labels]\nteam = \"vision\"\n[paper]\ntau = 50\nforecaster = \"mixture\"\n";
        let (asked, _) = read(&format!("{BASE}{more}")).unwrap();
        let paper =
            PaperOptions { tau: Some(50), forecaster: Some(Forecaster::Mixture), ..PaperOptions::default() };
        let expected = JobSpec {
            total_steps: Some(1000),
            fallback_lr: Some(0.1),
            lr_min: Some(1e-3),
            lr_max: Some(1.0),
            seed: Some(3),
            max_overhead: Some(0.2),
            switch_every: Some(8),
            guard: Some(false),
            loss_lower_bound: Some(LossBound::None),
            open_budget: None,
            labels: [("team".to_owned(), "vision".to_owned())].into(),
            policy: Some(PolicySpec::Paper(paper)),
        };
        assert_eq!(asked, expected);
        let (asked, resolved) = read(&format!("{BASE}loss_lower_bound = -1\n[one_cycle]\n")).unwrap();
        assert_eq!(
            (asked.loss_lower_bound, resolved.policy_name()),
            (Some(LossBound::At(-1.0)), "one_cycle")
        );
        assert_eq!(read(BASE).unwrap().1.policy_name(), "scan");
        let (asked, _) = read(&format!("{BASE}[scan]\nrms_decay = 0.99\n")).unwrap();
        let scan = ScanOptions { rms_decay: Some(0.99), ..ScanOptions::default() };
        assert_eq!(asked.policy, Some(PolicySpec::Scan(scan)));
        let open = BASE.replace("total_steps = 1000", "") + "[open_budget]\nexpected_steps = 5000";
        assert_eq!(read(&open).unwrap().1.budget, Budget::Open { expected: Some(5000) });
    }

    #[test]
    fn mistakes_name_the_field() {
        for (more, parts) in [
            ("lr_mx = 1", &["lr_mx", "lr_max"][..]),
            ("[scan]\nlr_facto = 1", &["lr_facto", "lr_factor", "scan"]),
            ("[scann]", &["scann", "scan"]),
            ("[scan]\n[paper]", &["paper", "scan"]),
            ("policy = \"scan\"", &["policy", "[cosine]"]),
            ("seed = \"x\"", &["seed"]),
            ("[scan]\nlr_factor = \"x\"", &["scan", "lr_factor"]),
            ("loss_lower_bound = \"x\"", &["loss_lower_bound"]),
            ("loss_lower_bound = 1\nloss_unbounded = true", &["loss_lower_bound"]),
            ("loss_unbounded = 1", &["loss_unbounded"]),
            ("x = ", &["line 5"]),
        ] {
            let said = problems(more).join(" ");
            assert!(parts.iter().all(|part| said.contains(part)), "{more}: {said}");
        }
        let many = read("total_steps = 0\n[scan]\nlr_factor = 2").unwrap_err();
        assert_eq!(many.len(), 5, "{many:?}");
        assert!(many[0].starts_with("total_steps must") && many[4].starts_with("scan.lr_factor must"));
    }
}
