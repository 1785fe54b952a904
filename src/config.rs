//! Floor 5: settings. Where an instance keeps things, and for how long.

pub mod operator;
mod private_file;
pub mod retention;
pub mod runtime_dir;
pub mod sealed;
pub mod secrets;
pub mod state_dir;
pub mod surroundings;
pub mod trust;
pub mod work_dir;

use std::path::PathBuf;

pub use retention::Retention;
pub use state_dir::DirectoryError;
use surroundings::Surroundings;

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

impl Directories {
    /// The directories of this process's user, made if they were not there.
    pub fn of_this_user() -> Result<Self, DirectoryError> {
        Self::of(&Surroundings::of_this_process())
    }

    /// The directories that these surroundings name.
    pub fn of(surroundings: &Surroundings) -> Result<Self, DirectoryError> {
        let state = state_dir::choose(surroundings)?;
        state_dir::ensure(&state, surroundings.uid)?;
        let instance = state_dir::instance(&state)?;
        let runtime = runtime_dir::choose(surroundings, &instance)?;
        runtime_dir::ensure(&runtime, surroundings)?;
        Ok(Self { state, runtime, instance })
    }

    /// Where the state directory of this process's user lies; nothing is made.
    pub fn state_of_this_user() -> Result<PathBuf, DirectoryError> {
        state_dir::choose(&Surroundings::of_this_process())
    }

    /// Where workspaces on disk lie; it need not be there.
    pub fn work(&self) -> Result<PathBuf, DirectoryError> {
        work_dir::choose(&Surroundings::of_this_process(), &self.instance)
    }

    /// The same, made if it was not there.
    pub fn ensure_work(&self) -> Result<PathBuf, DirectoryError> {
        let work = self.work()?;
        work_dir::ensure(&work, &Surroundings::of_this_process())?;
        Ok(work)
    }
}
