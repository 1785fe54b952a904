//! A copy of the records, as they are at one moment, while others write.

use std::path::Path;

use crate::record::RecordError;
use crate::store::Store;

impl Store {
    /// Writes all records into a new file, which must not be there. Writers do not wait for it.
    pub async fn copy_to(&self, target: &Path) -> Result<(), RecordError> {
        let target = target.to_string_lossy().into_owned();
        let copied = sqlx::query("VACUUM INTO $1").bind(target).execute(&self.pool).await;
        copied.map(|_| ()).map_err(|err| crate::store::failure::of(&self.place, err))
    }
}
