//! Floor 5: settings. Where this user's state and runtime directories are.

use std::path::{Path, PathBuf};

use crate::sandbox::slot::make_private;

/// Where an instance keeps things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Records, logs: 0700.
    pub state: PathBuf,
    /// Slots and sockets, gone after a restart: 0700.
    pub runtime: PathBuf,
    /// The instance's id: two state directories are two instances.
    pub instance: String,
}

/// A directory of ours that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or written.
    #[error("the directory `{}` cannot be used", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Directories {
    /// The directories of this process's user, made if they were not there.
    pub fn of_this_user() -> Result<Self, DirectoryError> {
        let state = match std::env::var_os("AEGIS_STATE_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => PathBuf::from("/var/lib/aegis"),
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Unusable { path, source }
        };
        make_private(&state).map_err(failed(&state))?;
        let marker = state.join("instance");
        let instance = match std::fs::read_to_string(&marker) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => {
                let id = uuid::Uuid::now_v7().simple().to_string()[24..].to_owned();
                std::fs::write(&marker, &id).map_err(failed(&marker))?;
                id
            }
        };
        let runtime = PathBuf::from("/run/aegis").join(&instance);
        make_private(&runtime).map_err(failed(&runtime))?;
        Ok(Self { state, runtime, instance })
    }
}
