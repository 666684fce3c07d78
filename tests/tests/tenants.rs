//! Every RPC with every role on jobs of one's own, of others and of nobody, over the real binary.

use autolrs_proto::v1::{ListJobsRequest, job_service_client::JobServiceClient};
use autolrs_tests::{
    rpcs::{self, call},
    security::{Files, Line, bearer, start},
    server::Server,
    trainer::reason,
};
use tonic::{Code, Status};

const ROLES: [&str; 3] = ["read", "write", "admin"];

/// What each RPC needs, written down once more: it is a promise, not what the code happens to say.
const NEEDS: [(&str, &str); 16] = [
    ("GetJob", "read"),
    ("ListJobs", "read"),
    ("WatchJob", "read"),
    ("GetStage", "read"),
    ("ListStages", "read"),
    ("ExportSchedule", "read"),
    ("ValidateJobSpec", "read"),
    ("CreateJob", "write"),
    ("UpdateJob", "write"),
    ("FinishJob", "write"),
    ("CancelJob", "write"),
    ("OpenSession", "write"),
    ("Advance", "write"),
    ("Train", "write"),
    ("DeleteJob", "admin"),
    ("Backup", "admin"),
];

/// Those that are about no job that exists.
const ABOUT_NO_JOB: [&str; 4] = ["ListJobs", "ValidateJobSpec", "CreateJob", "Backup"];

/// A server with a token of every role for the tenants a and b and for the server itself.
struct World {
    server: Server,
    /// By tenant and role.
    tokens: Vec<(&'static str, &'static str, String)>,
    _files: Files,
}

impl World {
    async fn new() -> Self {
        let files = Files::new();
        let mut tokens = Vec::new();
        for tenant in ["a", "b", "*"] {
            for role in ROLES {
                tokens.push((tenant, role, files.token(tenant, role).await));
            }
        }
        let server = start(&["--tokens", &files.text("tokens.json")]).await;
        Self { server, tokens, _files: files }
    }

    fn line(&self, tenant: &str, role: &str) -> Line {
        let found = self.tokens.iter().find(|(t, r, _)| (*t, *r) == (tenant, role));
        bearer(self.server.channel(), &found.expect("a token").2)
    }
}

fn rank(role: &str) -> usize {
    ROLES.iter().position(|&known| known == role).expect("a role")
}

/// All that a caller can see of a refusal but the time of day.
fn seen(status: &Status) -> (Code, String, Vec<u8>, String) {
    let mut metadata = status.metadata().clone().into_headers();
    metadata.remove("date");
    (status.code(), status.message().into(), status.details().into(), format!("{metadata:?}"))
}

#[tokio::test]
async fn every_rpc_with_every_role_on_jobs_of_all_kinds() {
    assert_eq!(
        NEEDS.map(|(rpc, _)| rpc.to_owned()).into_iter().collect::<std::collections::BTreeSet<_>>(),
        rpcs::all()
    );
    let world = World::new().await;
    for (rpc, needed) in NEEDS.into_iter().filter(|(rpc, _)| *rpc != "Backup") {
        for role in ROLES {
            let name = format!("{}-{role}", rpc.to_lowercase());
            let absent = call(world.line("b", role), rpc, &name).await;
            call(world.line("a", "write"), "CreateJob", &name).await.unwrap();
            call(world.line("a", "write"), "OpenSession", &name).await.unwrap();
            let foreign = call(world.line("b", role), rpc, &name).await;
            let own = call(world.line("a", role), rpc, &name).await;
            let server = call(world.line("*", role), rpc, &name).await;
            if rank(role) < rank(needed) {
                for refused in [&absent, &foreign, &own, &server] {
                    let status = refused.as_ref().expect_err(&name);
                    assert_eq!((status.code(), &*reason(status)), (Code::PermissionDenied, "ROLE_TOO_LOW"));
                    assert!(status.message().contains(&format!("the role {needed}")), "{status:?}");
                }
                continue;
            }
            // A job of one's own is reached, though what is asked of it may not fit its state.
            if let Err(status) = &own {
                let code = status.code();
                assert!(
                    code == Code::FailedPrecondition
                        || (code == Code::NotFound && reason(status) == "STAGE_NOT_FOUND"),
                    "{name}: {status:?}"
                );
            }
            let server = server.expect_err(&name);
            assert_eq!(
                (server.code(), &*reason(&server)),
                (Code::PermissionDenied, "WRONG_TENANT"),
                "{name}"
            );
            if ABOUT_NO_JOB.contains(&rpc) {
                assert!(absent.is_ok() && foreign.is_ok(), "{name}: {absent:?} {foreign:?}");
                continue;
            }
            let (absent, foreign) = (absent.expect_err(&name), foreign.expect_err(&name));
            assert_eq!((foreign.code(), &*reason(&foreign)), (Code::NotFound, "JOB_NOT_FOUND"), "{name}");
            assert_eq!(seen(&absent), seen(&foreign), "{name}");
        }
    }
}

#[tokio::test]
async fn a_tenant_sees_its_own_jobs_and_only_the_servers_admin_backs_up_all() {
    let world = World::new().await;
    for (tenant, job) in [("a", "one"), ("a", "shared-name"), ("b", "shared-name")] {
        call(world.line(tenant, "write"), "CreateJob", job).await.unwrap();
    }
    for (tenant, expected) in [("a", vec!["one", "shared-name"]), ("b", vec!["shared-name"])] {
        let mut jobs = JobServiceClient::new(world.line(tenant, "read"));
        let listed = jobs.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
        assert_eq!(listed.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), expected, "{tenant}");
    }
    // The same name, and yet two jobs.
    call(world.line("a", "write"), "CancelJob", "shared-name").await.unwrap();
    call(world.line("b", "write"), "OpenSession", "shared-name").await.unwrap();
    for (tenant, role, expected) in [
        ("a", "write", Some("ROLE_TOO_LOW")),
        ("a", "admin", Some("WRONG_TENANT")),
        ("*", "write", Some("ROLE_TOO_LOW")),
        ("*", "admin", None),
    ] {
        let backup = call(world.line(tenant, role), "Backup", "").await;
        assert_eq!(backup.err().map(|status| reason(&status)).as_deref(), expected, "{tenant} {role}");
    }
}
