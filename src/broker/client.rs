//! The engine as a server sees it that has a broker: the same verbs, and no socket of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::link::{self, Link, Order};
use crate::broker::shape::{self, Ground};
use crate::broker::wire::{Answered, Failure, Verb};
use crate::container::{
    ContainerSpec, Engine, EngineError, EngineFacts, ImageFacts, InspectedContainer, ListedContainer,
};
use crate::docker::create;
use crate::docker::images::PullError;
use crate::sandbox::container_spec::LABEL_INSTANCE;

/// An engine behind a broker. Cheap to clone; the broker ends with the last one.
#[derive(Debug, Clone)]
pub struct BrokeredEngine {
    link: Arc<Link>,
    ground: Arc<Ground>,
}

impl BrokeredEngine {
    /// Starts or reaches a broker and tells it whose containers it makes.
    pub async fn open(order: &Order, ground: Arc<Ground>) -> Result<Self, EngineError> {
        let link = Link::open(order).await.map_err(|it| link::unopened(order, it))?;
        let engine = Self { link: Arc::new(link), ground };
        let begin = Verb::Begin { instance: engine.ground.instance.clone() };
        engine.done(begin).await?;
        Ok(engine)
    }

    /// Returns when the broker is gone.
    pub async fn ended(&self) {
        self.link.ended().await;
    }

    /// Whether it is gone.
    pub fn has_ended(&self) -> bool {
        self.link.has_ended()
    }

    /// The broker's process, where it was started here.
    pub fn process_id(&self) -> Option<u32> {
        self.link.process_id()
    }

    /// Fetches an image, with the broker's credentials.
    pub async fn pull_image(&self, image: &str) -> Result<ImageFacts, PullError> {
        let (verb, owned) = (Verb::Pull { reference: image.to_owned() }, image.to_owned());
        let told = verb.told();
        let failed = |source| PullError::Engine { image: image.to_owned(), source };
        match self.link.ask(verb).await.map_err(failed)? {
            Answered::Image(image) => Ok((*image).into()),
            Answered::Failed(Failure::NotInRegistry { message }) => {
                Err(PullError::NotFound { image: owned, message })
            }
            Answered::Failed(Failure::Unauthorized { registry, message }) => {
                Err(PullError::Unauthorized { image: owned, registry, message })
            }
            other => Err(failed(unexpected(other, told))),
        }
    }

    async fn done(&self, verb: Verb) -> Result<(), EngineError> {
        let told = verb.told();
        match self.link.ask(verb).await? {
            Answered::Done => Ok(()),
            other => Err(unexpected(other, told)),
        }
    }
}

/// The failure, or an answer to another question.
fn unexpected(answered: Answered, told: &'static str) -> EngineError {
    match answered {
        Answered::Failed(failure) => failure.engine_error(told),
        Answered::Done
        | Answered::Facts(_)
        | Answered::Image(_)
        | Answered::Created { .. }
        | Answered::Inspected(_)
        | Answered::Listed(_)
        | Answered::Seen { .. } => {
            EngineError::Refused { verb: told, message: "the broker answered something else".to_owned() }
        }
    }
}

impl Engine for BrokeredEngine {
    async fn ping(&self) -> Result<(), EngineError> {
        self.done(Verb::Ping).await
    }

    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        match self.link.ask(Verb::Facts).await? {
            Answered::Facts(facts) => Ok(facts.into()),
            other => Err(unexpected(other, Verb::Facts.told())),
        }
    }

    fn settings(&self, spec: &ContainerSpec) -> BTreeMap<String, String> {
        create::settings(&create::body(spec))
    }

    async fn image(&self, reference: &str) -> Result<ImageFacts, EngineError> {
        let verb = Verb::Image { reference: reference.to_owned() };
        let told = verb.told();
        match self.link.ask(verb).await? {
            Answered::Image(image) => Ok((*image).into()),
            other => Err(unexpected(other, told)),
        }
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let Some(create) = shape::request(spec, &self.ground) else {
            return Err(EngineError::Refused {
                verb: "create the sandbox's container",
                message: "it is of another shape than the broker makes".to_owned(),
            });
        };
        let verb = Verb::Create(Box::new(create));
        let told = verb.told();
        match self.link.ask(verb).await? {
            Answered::Created { container } => Ok(container),
            other => Err(unexpected(other, told)),
        }
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        self.done(Verb::Start { container: container.to_owned() }).await
    }

    async fn inspect(&self, container: &str) -> Result<InspectedContainer, EngineError> {
        let verb = Verb::Inspect { container: container.to_owned() };
        let told = verb.told();
        match self.link.ask(verb).await? {
            Answered::Inspected(inspected) => Ok(inspected.into()),
            other => Err(unexpected(other, told)),
        }
    }

    async fn destroy(&self, container: &str) -> Result<(), EngineError> {
        self.done(Verb::Destroy { container: container.to_owned() }).await
    }

    async fn list(&self, label: &str) -> Result<Vec<ListedContainer>, EngineError> {
        if label.split_once('=') != Some((LABEL_INSTANCE, &self.ground.instance)) {
            return Err(EngineError::Refused {
                verb: "list containers",
                message: "a broker lists those of its instance only".to_owned(),
            });
        }
        match self.link.ask(Verb::List).await? {
            Answered::Listed(listed) => Ok(listed.into_iter().map(Into::into).collect()),
            other => Err(unexpected(other, Verb::List.told())),
        }
    }

    async fn out_of_memory_seen(&self, container: &str) -> Result<bool, EngineError> {
        let verb = Verb::OutOfMemorySeen { container: container.to_owned() };
        let told = verb.told();
        match self.link.ask(verb).await? {
            Answered::Seen { seen } => Ok(seen),
            other => Err(unexpected(other, told)),
        }
    }
}
