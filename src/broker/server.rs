//! The broker's answers: each request is held to the rules, then done with the engine that this process alone can reach.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::broker::frame::{self, ANSWER_BYTES_MAX, ASK_BYTES_MAX, FrameError};
use crate::broker::places;
use crate::broker::rules::{self, Bounds, Refusal};
use crate::broker::shape::{self, Ground};
use crate::broker::wire::{self, Answer, Answered, Ask, Create, Failure, Verb};
use crate::container::{Engine, EngineError};
use crate::docker::DockerEngine;
use crate::docker::images::PullError;
use crate::sandbox::container_spec::LABEL_INSTANCE;

/// Requests that wait for their answer. While there are so many, none is read.
pub const ASKS_MAX: usize = 256;
/// Seconds that an answer may take: several calls of the engine, each with its own bound.
const ANSWER_SECONDS_MAX: u64 = 150;
/// The same for an image that is fetched.
const PULL_SECONDS_MAX: u64 = 3_700;
/// Containers that are remembered as the instance's; they are looked up again when there are more.
const OURS_MAX: usize = 8_192;
/// Containers of one listing at the most.
const LISTED_MAX: usize = 20_000;

/// What a broker works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The engine's socket.
    pub engine: PathBuf,
    /// Where instances have their runtime directories.
    pub runtime_root: PathBuf,
    /// Where instances have their work directories; `None` where there is no workspace on disk.
    pub work_root: Option<PathBuf>,
    /// Where `docker login` keeps what it was told.
    pub login_file: Option<PathBuf>,
    /// What a sandbox may have.
    pub bounds: Bounds,
    /// The user at the other end: slots are theirs.
    pub server_uid: u32,
}

/// A broker at work for one server.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    ground: OnceLock<Ground>,
    engine: Mutex<Option<DockerEngine>>,
    ours: Mutex<BTreeSet<String>>,
}

/// Why a broker ended before its server did.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// What came is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It is none of the broker's.
    #[error("the broker was asked what it does not know: {reason}")]
    Unknown {
        /// The mistake.
        reason: String,
    },
}

/// Answers over a socket until the other end is done, or says what cannot be said; that is answered, too.
pub async fn serve(socket: UnixStream, settings: Settings) -> Result<(), BrokerError> {
    let broker = Arc::new(Broker::new(settings));
    let (mut asks, writer) = socket.into_split();
    let (answers, queue) = mpsc::channel(ASKS_MAX);
    let permits = Arc::new(Semaphore::new(ASKS_MAX));
    let mut working = JoinSet::new();
    let listening = async {
        loop {
            // Held until the answer is on its way: so many and no more are under way.
            let Ok(permit) = permits.clone().acquire_owned().await else { return Ok(()) };
            let ask = match next(&mut asks).await {
                Ok(Some(ask)) => ask,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let failure = Failure::NotAllowed { reason: error.to_string() };
                    let _ = answers.send(Answer { id: 0, answered: Answered::Failed(failure) }).await;
                    return Err(error);
                }
            };
            let (broker, answers) = (broker.clone(), answers.clone());
            working.spawn(async move {
                let answered = broker.answer(ask.verb).await;
                // A server that is gone hears nothing.
                let _ = answers.send(Answer { id: ask.id, answered }).await;
                drop(permit);
            });
            while working.try_join_next().is_some() {}
        }
    };
    let speaking = speak(writer, queue);
    tokio::pin!(speaking);
    let ended = tokio::select! {
        ended = listening => ended,
        spoken = &mut speaking => return Ok(spoken?),
    };
    working.abort_all();
    drop(answers);
    while working.join_next().await.is_some() {}
    speaking.await?;
    ended
}

async fn next(asks: &mut tokio::net::unix::OwnedReadHalf) -> Result<Option<Ask>, BrokerError> {
    let Some(bytes) = frame::read(asks, ASK_BYTES_MAX).await? else { return Ok(None) };
    wire::decode(&bytes).map(Some).map_err(|reason| BrokerError::Unknown { reason })
}

async fn speak(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Answer>) -> Result<(), FrameError> {
    while let Some(answer) = queue.recv().await {
        let frame = match frame::framed(&wire::encode(&answer), ANSWER_BYTES_MAX) {
            Ok(frame) => frame,
            Err(error) => {
                let failure = Failure::Refused { message: error.to_string() };
                let told = Answer { id: answer.id, answered: Answered::Failed(failure) };
                frame::framed(&wire::encode(&told), ANSWER_BYTES_MAX)?
            }
        };
        frame::write(&mut to, &frame).await?;
    }
    Ok(())
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::NotAllowed { reason: refusal.to_string() }
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Credentials(error) => Self::Refused { message: error.to_string() },
            PullError::NotFound { message, .. } => Self::NotInRegistry { message },
            PullError::Unauthorized { registry, message, .. } => Self::Unauthorized { registry, message },
            PullError::Engine { source, .. } => source.into(),
        }
    }
}

impl Broker {
    /// One that has not been asked yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ground: OnceLock::new(), engine: Mutex::default(), ours: Mutex::default() }
    }

    /// What comes of a request, in time.
    pub async fn answer(&self, verb: Verb) -> Answered {
        let seconds = seconds_max(&verb);
        match tokio::time::timeout(Duration::from_secs(seconds), self.done(verb)).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(failure)) => Answered::Failed(failure),
            Err(_) => Answered::Failed(Failure::TimedOut { seconds }),
        }
    }

    async fn done(&self, verb: Verb) -> Result<Answered, Failure> {
        if let Verb::Begin { instance } = verb {
            return self.begin(instance);
        }
        let ground = self.ground.get().ok_or(Refusal::Order)?;
        match verb {
            Verb::Begin { .. } => Err(Refusal::Order.into()),
            Verb::Ping => Ok(self.engine().await?.ping().await.map(|()| Answered::Done)?),
            Verb::Facts => Ok(Answered::Facts(self.connect().await?.facts().await?.into())),
            Verb::Image { reference } => {
                rules::reference(&reference)?;
                Ok(Answered::Image(Box::new(self.engine().await?.image(&reference).await?.into())))
            }
            Verb::Pull { reference } => self.pull(&reference).await,
            Verb::Create(create) => self.create(&create, ground).await,
            Verb::Start { container } => {
                self.owned(&container, ground).await?;
                Ok(self.engine().await?.start(&container).await.map(|()| Answered::Done)?)
            }
            Verb::Inspect { container } => {
                self.owned(&container, ground).await?;
                Ok(Answered::Inspected(self.engine().await?.inspect(&container).await?.into()))
            }
            Verb::Destroy { container } => self.destroy(&container, ground).await,
            Verb::List => self.list(ground).await,
            Verb::OutOfMemorySeen { container } => {
                self.owned_or_gone(&container, ground).await?;
                let seen = self.engine().await?.out_of_memory_seen(&container).await?;
                Ok(Answered::Seen { seen })
            }
        }
    }

    fn begin(&self, instance: String) -> Result<Answered, Failure> {
        rules::instance(&instance)?;
        let runtime = self.settings.runtime_root.join(&instance);
        let work = self.settings.work_root.as_ref().map(|it| it.join(&instance));
        let ground = Ground::of(instance, runtime, work);
        places::instance(&ground, self.settings.server_uid)?;
        self.ground.set(ground).map_err(|_| Refusal::Order)?;
        Ok(Answered::Done)
    }

    async fn create(&self, create: &Create, ground: &Ground) -> Result<Answered, Failure> {
        rules::create(create, &self.settings.bounds)?;
        let engine = self.engine().await?;
        // Last, and at once before the engine is asked.
        places::create(create, ground, self.settings.server_uid)?;
        let container = engine.create(&shape::whole(create, ground)).await?;
        let mut ours = self.ours();
        if ours.len() >= OURS_MAX {
            ours.clear();
        }
        ours.insert(container.clone());
        Ok(Answered::Created { container })
    }

    async fn destroy(&self, container: &str, ground: &Ground) -> Result<Answered, Failure> {
        self.owned_or_gone(container, ground).await?;
        self.engine().await?.destroy(container).await?;
        self.ours().remove(container);
        Ok(Answered::Done)
    }

    async fn list(&self, ground: &Ground) -> Result<Answered, Failure> {
        let listed = self.engine().await?.list(&label(ground)).await?;
        Ok(Answered::Listed(listed.into_iter().take(LISTED_MAX).map(Into::into).collect()))
    }

    /// Holds that a container is the instance's: made here, or labelled so.
    async fn owned(&self, container: &str, ground: &Ground) -> Result<(), Failure> {
        rules::container(container)?;
        if self.ours().contains(container) {
            return Ok(());
        }
        let engine = self.engine().await?;
        let listed: BTreeSet<String> =
            engine.list(&label(ground)).await?.into_iter().map(|it| it.id).collect();
        if listed.contains(container) {
            *self.ours() = listed;
            return Ok(());
        }
        match engine.inspect(container).await {
            Err(error @ EngineError::ContainerNotFound { .. }) => Err(error.into()),
            Ok(_) | Err(_) => {
                let (container, instance) = (container.to_owned(), ground.instance.clone());
                Err(Refusal::Foreign { container, instance }.into())
            }
        }
    }

    /// The same; one that is gone is nobody's, and the engine says so.
    async fn owned_or_gone(&self, container: &str, ground: &Ground) -> Result<(), Failure> {
        match self.owned(container, ground).await {
            Err(Failure::ContainerNotFound { .. }) => Ok(()),
            owned => owned,
        }
    }

    async fn pull(&self, reference: &str) -> Result<Answered, Failure> {
        rules::reference(reference)?;
        let login_file = self.settings.login_file.as_deref();
        let image = self.engine().await?.pull_image(reference, login_file, |_| {}).await?;
        Ok(Answered::Image(Box::new(image.into())))
    }

    /// The engine as it was connected to last.
    async fn engine(&self) -> Result<DockerEngine, EngineError> {
        let known = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(engine) => Ok(engine),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<DockerEngine, EngineError> {
        let engine = DockerEngine::connect(&self.settings.engine, None).await?;
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.clone());
        Ok(engine)
    }

    fn ours(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds that an answer to this may take.
pub fn seconds_max(verb: &Verb) -> u64 {
    if matches!(verb, Verb::Pull { .. }) { PULL_SECONDS_MAX } else { ANSWER_SECONDS_MAX }
}

fn label(ground: &Ground) -> String {
    format!("{LABEL_INSTANCE}={}", ground.instance)
}
