//! What a server's run changed: fetched whole, checked, and held against a tree of this user's.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use crate::app::changes::{RunChanges, receive};
use crate::cli::client::Client;
use crate::cli::client::runs::told;
use crate::cli::diff::failure;
use crate::cli::failure::Failure;

/// Bytes of a change set that are taken at the most.
const PARCEL_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

impl Client {
    /// The changes of a run, for the tree at `directory`.
    pub async fn changes(&self, run: &str, directory: &Path) -> Result<RunChanges, Failure> {
        let id = told(&self.run(run).await?.id)?;
        receive(id, self.parcel(run).await?, directory).map_err(failure)
    }

    /// What a run changed, as the server packs it: unchecked.
    pub async fn parcel(&self, run: &str) -> Result<File, Failure> {
        let mut answer = self.archive(run, "/changes").await?;
        let mut parcel = tempfile::tempfile().map_err(|it| Failure::of(&it))?;
        let mut bytes = 0_u64;
        while let Some(piece) = answer.next().await.map_err(|it| Failure::of(&it))? {
            bytes += piece.len() as u64;
            if bytes > PARCEL_BYTES_MAX {
                return Err(Failure::new("the server sends more changes than any run may make"));
            }
            parcel.write_all(&piece).map_err(|it| Failure::of(&it))?;
        }
        parcel.rewind().map_err(|it| Failure::of(&it))?;
        Ok(parcel)
    }
}
