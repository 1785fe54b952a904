//! Whether the engine can be had now. While it cannot, nothing is claimed; when it is back, it is asked anew what it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::app::broker::Brokers;
use crate::broker::BrokeredEngine;
use crate::container::{Engine, EngineFacts};
use crate::task::causes::told;

/// How often it is asked while nobody doubts it.
const ASK_PAUSE: Duration = Duration::from_secs(5);
/// The same while it is away.
const AWAY_PAUSE: Duration = Duration::from_millis(500);
/// Time that an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// An engine that answered.
#[derive(Debug)]
pub struct Present {
    /// It, behind the broker.
    pub engine: BrokeredEngine,
    /// What it said it is.
    pub facts: EngineFacts,
}

/// What is known of the engine.
#[derive(Debug, Clone)]
pub enum State {
    /// It answers.
    Present(Arc<Present>),
    /// It does not, for this reason.
    Away(String),
}

/// The watch over one engine.
#[derive(Debug)]
pub struct EngineWatch {
    brokers: Brokers,
    state: watch::Sender<State>,
    doubt: Notify,
}

impl EngineWatch {
    /// One that has not asked yet.
    pub fn new(brokers: Brokers) -> Self {
        let state = State::Away("it has not been asked yet".to_owned());
        Self { brokers, state: watch::Sender::new(state), doubt: Notify::new() }
    }

    /// The engine, if it answers.
    pub fn present(&self) -> Option<Arc<Present>> {
        match &*self.state.borrow() {
            State::Present(present) => Some(present.clone()),
            State::Away(_) => None,
        }
    }

    /// Why it cannot be had; `None` when it can.
    pub fn away(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Present(_) => None,
            State::Away(reason) => Some(reason.clone()),
        }
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Something failed that may be the engine's: it is asked again, and the answer waited for.
    pub async fn check(&self) -> Option<Arc<Present>> {
        let present = self.present()?;
        let answered = tokio::time::timeout(ANSWER_TIME_MAX, present.engine.ping()).await;
        match answered {
            Ok(Ok(())) => Some(present),
            Ok(Err(error)) => self.lose(told(&error)),
            Err(_) => self.lose(format!("it did not answer within {} s", ANSWER_TIME_MAX.as_secs())),
        }
    }

    /// Keeps asking, until it is told to stop.
    pub async fn keep(&self, stop: &CancellationToken) {
        loop {
            match self.present() {
                Some(_) => drop(self.check().await),
                None => self.find().await,
            }
            let present = self.present();
            let pause = if present.is_some() { ASK_PAUSE } else { AWAY_PAUSE };
            let broker_ended = async {
                match &present {
                    Some(present) => present.engine.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = broker_ended => {}
                () = self.doubt.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Connects anew: what comes back may be another version.
    async fn find(&self) {
        let found = async {
            let engine = self.brokers.engine().await.map_err(|it| told(&it))?;
            let facts = engine.facts().await.map_err(|it| told(&it))?;
            Ok::<_, String>(Present { engine, facts })
        };
        match tokio::time::timeout(ANSWER_TIME_MAX, found).await {
            Ok(Ok(present)) => {
                tracing::info!("the engine answers: {}", present.facts.description);
                self.state.send_replace(State::Present(Arc::new(present)));
            }
            Ok(Err(reason)) => {
                self.lose(reason);
            }
            Err(_) => {
                self.lose("it does not answer".to_owned());
            }
        }
    }

    fn lose(&self, reason: String) -> Option<Arc<Present>> {
        let was_present = self.present().is_some();
        self.state.send_replace(State::Away(reason.clone()));
        if was_present {
            tracing::warn!("the engine cannot be had: {reason}");
            // Looked for at once; after that with a pause.
            self.doubt.notify_one();
        }
        None
    }
}
