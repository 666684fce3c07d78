//! Whether the store can be opened.

use super::Finding;
use crate::{
    config::Config,
    store::{JobStore, SledOptions, SledStore, StoreError},
};

/// `serves`: a server answers on the address of this configuration.
pub(super) async fn store(config: &Config, serves: bool) -> Finding {
    let (check, path) = ("store", &config.data_dir);
    match SledStore::open_existing(path, SledOptions::default()).await {
        Ok(store) => {
            store.close().await;
            Finding::ok(check, format!("the store in {} can be opened", path.display()))
        }
        Err(StoreError::Locked { holder, .. }) if serves => {
            Finding::ok(check, format!("{} is in use by {holder}", path.display()))
        }
        Err(StoreError::NoStore { .. }) if config.create_store => {
            Finding::ok(check, format!("there is no store in {} yet: the server makes one", path.display()))
        }
        Err(error @ StoreError::NoStore { .. }) => {
            let remedy = "mount the volume; or let the server make a store with --create-store";
            Finding::fail(check, error.to_string(), remedy)
        }
        Err(error) if error.heals() => {
            let remedy = "the server starts, and serves when this is mended";
            Finding::fail(check, error.to_string(), remedy)
        }
        Err(error) => {
            Finding::fail(check, error.to_string(), "the server does not start before this is mended")
        }
    }
}
