//! An export of a running server.

use super::{Found, StoreCommandError, file::NewFile};
use crate::{
    cli::client::{ANSWER, ClientError, Target},
    store::{JobKey, export::Damage},
};
use autolrs_proto::v1::{BackupRequest, store_service_client::StoreServiceClient};
use std::path::PathBuf;

pub(super) async fn backup(target: &Target, path: PathBuf) -> Result<Found, StoreCommandError> {
    let mut file = NewFile::begin(path.clone())?;
    let mut client = StoreServiceClient::new(target.connect().await?);
    let mut parts = client.backup(BackupRequest {}).await.map_err(ClientError::from)?.into_inner();
    let mut found = Found::default();
    let silent = |_| ClientError::Unreachable {
        server: target.server.clone(),
        reason: format!("nothing came for {} s", ANSWER.as_secs()),
    };
    while let Some(part) =
        tokio::time::timeout(ANSWER, parts.message()).await.map_err(silent)?.map_err(ClientError::from)?
    {
        file.write(&part.data)?;
        found.add(part.damaged.into_iter().map(|damaged| Damage {
            job: JobKey { tenant: damaged.tenant, name: damaged.job },
            what: damaged.detail,
        }));
    }
    Ok(Found { count: file.finish()?, file: Some(path), ..found })
}
