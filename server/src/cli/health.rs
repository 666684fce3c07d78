//! `autolrs health`: the gRPC health check of the whole server.

use super::client::{ClientError, Target, block_on};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Asks once.
///
/// # Errors
/// Unless the server says that it is serving.
pub fn run(target: &Target) -> Result<(), ClientError> {
    block_on(async {
        let mut client = HealthClient::new(target.connect().await?);
        let answer = client.check(HealthCheckRequest::default()).await?.into_inner();
        if answer.status() == ServingStatus::Serving {
            return Ok(());
        }
        Err(ClientError::NotServing(target.server.clone()))
    })
}
