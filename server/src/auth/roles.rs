//! What each RPC needs: the one table. A test holds it against the proto, so a new RPC has no way in until it stands
//! here, and the guide for operators shows the same table.

use autolrs_proto::v1::{
    job_service_server::SERVICE_NAME as JOBS, store_service_server::SERVICE_NAME as STORE,
    trainer_service_server::SERVICE_NAME as TRAINERS,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a token may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See jobs.
    Read,
    /// Train: make jobs, report, steer and end them.
    Write,
    /// Delete jobs; with the tenant `*`, back up the store.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Jobs of the caller's own tenant: it has to have one.
    Tenant,
    /// The server with all tenants: the caller's tenant has to be `*`.
    Server,
}

/// What an RPC needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The service's name in the proto.
    pub service: &'static str,
    /// The method's.
    pub method: &'static str,
    /// The least role.
    pub role: Role,
    /// What it is about.
    pub of: Of,
}

const fn rule(service: &'static str, method: &'static str, role: Role) -> Rule {
    Rule { service, method, role, of: Of::Tenant }
}

/// Every RPC of the services with jobs in them. gRPC health and reflection say nothing of any job and need no token.
pub const RULES: &[Rule] = &[
    rule(JOBS, "GetJob", Role::Read),
    rule(JOBS, "ListJobs", Role::Read),
    rule(JOBS, "WatchJob", Role::Read),
    rule(JOBS, "GetStage", Role::Read),
    rule(JOBS, "ListStages", Role::Read),
    rule(JOBS, "ExportSchedule", Role::Read),
    rule(JOBS, "ValidateJobSpec", Role::Read),
    rule(JOBS, "CreateJob", Role::Write),
    rule(JOBS, "UpdateJob", Role::Write),
    rule(JOBS, "FinishJob", Role::Write),
    rule(JOBS, "CancelJob", Role::Write),
    rule(JOBS, "DeleteJob", Role::Admin),
    rule(TRAINERS, "OpenSession", Role::Write),
    rule(TRAINERS, "Advance", Role::Write),
    rule(TRAINERS, "Train", Role::Write),
    Rule { service: STORE, method: "Backup", role: Role::Admin, of: Of::Server },
];

impl Rule {
    /// The rule of a request's path, `/autolrs.v1.JobService/GetJob`; none: there is no such RPC.
    pub fn of_path(path: &str) -> Option<&'static Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        RULES.iter().find(|rule| rule.service == service && rule.method == method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::FILE_DESCRIPTOR_SET;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    #[test]
    fn every_rpc_of_the_proto_has_one_rule_and_no_other_has() {
        let mut expected = BTreeSet::new();
        for file in FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                expected.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        let paths: Vec<_> = RULES.iter().map(|rule| format!("/{}/{}", rule.service, rule.method)).collect();
        assert_eq!(paths.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(paths.len(), expected.len(), "an RPC with two rules");
        for (path, rule) in paths.iter().zip(RULES) {
            assert_eq!(Rule::of_path(path), Some(rule));
        }
    }

    #[test]
    fn the_guide_shows_the_table() {
        let guide = include_str!("../../../deploy/README.md");
        for rule in RULES {
            let row = format!(
                "| `{}` | {} |",
                rule.method,
                match rule.of {
                    Of::Tenant => rule.role.to_string(),
                    Of::Server => format!("{} of the tenant `*`", rule.role),
                }
            );
            assert!(guide.contains(&row), "deploy/README.md has no row {row}");
        }
    }
}
