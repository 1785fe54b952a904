//! A copy of the records, as they are at one moment, while others write.

use std::path::Path;

use crate::record::RecordError;
use crate::store::database::Pool;
use crate::store::{Store, failure};

impl Store {
    /// Writes all records of a state directory into a new file, which must not be there. Writers do not wait for it. Those on a
    /// server are that server's to copy.
    pub async fn copy_to(&self, target: &Path) -> Result<(), RecordError> {
        let place = &self.books.database.place;
        let Pool::Sqlite(pool) = &self.books.database.pool else {
            let source = "records on a server are copied with its own tools, as `pg_dump`".into();
            return Err(RecordError::Unavailable { place: place.to_path_buf(), source });
        };
        let target = target.to_string_lossy().into_owned();
        let copied = sqlx::query("VACUUM INTO $1").bind(target).execute(pool).await;
        copied.map(|_| ()).map_err(|err| failure::of(place, err))
    }
}
