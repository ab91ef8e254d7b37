//! Options that name a store, and where versions of remote stores are kept.

use std::path::PathBuf;

use anyhow::Context;
use unimodel_model::store::Store;

/// The option that names the store.
#[derive(clap::Args)]
pub struct StoreArgs {
    /// The store: a directory or a file://, s3://, gs://, az:// or https:// URL
    #[arg(long = "store", value_name = "URL", env = "UNIMODEL_STORE")]
    url: String,
}

impl StoreArgs {
    /// Opens it.
    pub fn open(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.url)?)
    }
}

/// The directory in which [`Store::load`] keeps what it fetched: `$UNIMODEL_CACHE/versions`, or `unimodel/versions` in the
/// user's cache directory.
pub fn version_cache() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("UNIMODEL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("unimodel")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/unimodel")));
    Ok(cache.context("no cache directory: set UNIMODEL_CACHE or HOME")?.join("versions"))
}
