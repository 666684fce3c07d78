//! Checks of what stands around the services: health, reflection, limits.

use super::kit::{Kit, constant};
use crate::cli::conformance::verdict::{Broken, Verdict, expect, same, told};
use autolrs_proto::v1::{CreateJobRequest, JobSpec};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The services of the protocol that both halves of the kit speak.
const SERVICES: [&str; 2] = ["autolrs.v1.JobService", "autolrs.v1.TrainerService"];
/// More than any message of the protocol needs.
const TOO_MUCH: usize = 32 << 20;

pub(super) async fn health(kit: &Kit) -> Verdict {
    let mut client = HealthClient::new(kit.channel());
    let whole = client.check(HealthCheckRequest::default()).await?.into_inner();
    same("the whole server's health", &ServingStatus::Serving, &whole.status())?;
    let unknown = HealthCheckRequest { service: "autolrs.v1.NoSuchService".into() };
    let status = client.check(unknown).await.err().map(|status| status.code());
    same("health of a service that it has not", &Some(Code::NotFound), &status)
}

macro_rules! reflected {
    ($name:ident, $version:ident) => {
        pub(super) async fn $name(kit: &Kit) -> Verdict {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new(kit.channel());
            let request =
                |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
            let mut asked = vec![request(MessageRequest::ListServices(String::new()))];
            asked.extend(SERVICES.map(|name| request(MessageRequest::FileContainingSymbol(name.into()))));
            let mut answers = client.server_reflection_info(tokio_stream::iter(asked)).await?.into_inner();
            let mut files = 0;
            while let Some(answer) = answers.message().await? {
                match answer.message_response {
                    Some(MessageResponse::ListServicesResponse(list)) => {
                        let names: Vec<&str> = list.service.iter().map(|s| s.name.as_str()).collect();
                        for service in SERVICES {
                            expect(names.contains(&service), service, names.join(", "))?;
                        }
                    }
                    Some(MessageResponse::FileDescriptorResponse(file)) => {
                        files += usize::from(!file.file_descriptor_proto.is_empty());
                    }
                    other => return Err(Broken::new("a list or a file", format!("{other:?}"))),
                }
            }
            same("files of the services:", &SERVICES.len(), &files)
        }
    };
}

reflected!(reflection, v1);
reflected!(reflection_alpha, v1alpha);

pub(super) async fn oversized(kit: &Kit) -> Verdict {
    let labels = [("much".to_owned(), "x".repeat(TOO_MUCH))].into();
    let spec = Some(JobSpec { labels, ..constant(10) });
    let request = CreateJobRequest { name: kit.name(), spec, request_id: String::new() };
    let expected =
        "a refusal of a message of 32 MiB: RESOURCE_EXHAUSTED, OUT_OF_RANGE, INVALID_ARGUMENT, or a cut";
    match kit.jobs().create_job(request).await {
        Ok(_) => return Err(Broken::new(expected, "it was accepted")),
        Err(status) => {
            // A connection that the server cuts is a refusal, too.
            let refusals = [
                Code::ResourceExhausted,
                Code::OutOfRange,
                Code::InvalidArgument,
                Code::Unavailable,
                Code::Unknown,
                Code::Cancelled,
                Code::Internal,
            ];
            expect(refusals.contains(&status.code()), expected, told(&status))?;
        }
    }
    kit.create(constant(10)).await.map(drop).map_err(|broken| broken.at("the call after it"))
}
