//! The warm sandboxes of this process: made ahead by demand within a budget, each used once, retired on age and on doubt.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::serve::Host;
use crate::app::serve::demand::Demand;
use crate::app::serve::engine_watch::Present;
use crate::app::submission::{Named, understand};
use crate::app::{AppError, provision};
use crate::container::ImageFacts;
use crate::executor::starting::{NotStanding, Place};
use crate::executor::waiting::{Key, Waiting};
use crate::policy::{Admitted, HostAmounts, Overrides, admit};
use crate::queue::{PolicySource, Submission};

/// What one waiting sandbox takes of the host: init, its shim, what the engine keeps of it.
const SLOT_BYTES: u64 = 24 * 1024 * 1024;
/// The part of the host's memory that waiting sandboxes may take, and its bounds in sandboxes.
const BUDGET_PART: u64 = 16;
const SLOTS_MAX: u64 = 64;
const SLOTS_MIN: u64 = 1;
/// Kinds of sandboxes that are kept account of.
const SHELVES_MAX: usize = 64;
/// Sandboxes that are made at once: cold starts go first.
const MAKING_MAX: usize = 2;
/// How often everything is looked at without a reason.
const TICK: Duration = Duration::from_secs(1);
/// How often what was asked for by name is resolved anew: its image or policy may have changed.
const RESOLVE_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after failures of one kind.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Sandboxes that an operator wants to wait, whoever asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotsWanted {
    /// Image reference.
    pub image: String,
    /// A shipped policy's name.
    pub policy: String,
    /// How many.
    pub count: usize,
}

/// A sandbox that waits, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSlot {
    /// Its number.
    pub number: u32,
    /// The engine's id of its container.
    pub container: String,
    /// A few digits of what it can be used for.
    pub key: String,
    /// The image as it was named.
    pub image: String,
    /// The policy as it was named.
    pub policy: String,
    /// How long it has waited.
    pub age: Duration,
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    wake: Notify,
    slots_max: usize,
    wanted: Vec<SlotsWanted>,
    /// Why nothing is kept of each that is wanted, as it was told last.
    unkept: Mutex<Vec<Option<String>>>,
}

/// Sandboxes of one kind.
#[derive(Debug)]
struct Shelf {
    key: Key,
    recipe: Arc<Recipe>,
    minimum: usize,
    demand: Demand,
    waiting: VecDeque<Waiting>,
    making: usize,
    failures: u32,
    not_before: Instant,
}

/// What can be kept of what an operator wants.
enum Kept {
    Of(Box<Key>, Box<Recipe>),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// What one is made of.
#[derive(Debug)]
struct Recipe {
    admitted: Admitted,
    image: ImageFacts,
}

impl Pool {
    /// An empty one.
    pub fn new(wanted: Vec<SlotsWanted>, host: &HostAmounts) -> Self {
        let slots_max = (host.memory_bytes / BUDGET_PART / SLOT_BYTES).clamp(SLOTS_MIN, SLOTS_MAX);
        let slots_max = usize::try_from(slots_max).unwrap_or(usize::MAX);
        let unkept = Mutex::new(vec![None; wanted.len()]);
        Self { shelves: Mutex::default(), wake: Notify::new(), slots_max, wanted, unkept }
    }

    /// A sandbox for this task, if one waits; that it was asked for is noted either way.
    pub fn take(&self, place: &Place, admitted: &Admitted, image: &ImageFacts) -> Option<Waiting> {
        let key = Key::of(place, admitted, image)?;
        let now = Instant::now();
        let taken = {
            let mut shelves = self.lock();
            let shelf = shelf(&mut shelves, key, now, || Recipe {
                admitted: admitted.clone(),
                image: image.clone(),
            })?;
            shelf.demand.note(now);
            shelf.waiting.pop_front()
        };
        self.wake.notify_one();
        let found = if taken.is_some() { "warm" } else { "cold" };
        metrics::counter!("aegis_starts_total", "sandbox" => found).increment(1);
        taken
    }

    /// What waits.
    pub fn list(&self) -> Vec<WaitingSlot> {
        let shelves = self.lock();
        let all = shelves.iter().flat_map(|shelf| shelf.waiting.iter().map(move |it| (shelf, it)));
        all.map(|(shelf, it)| WaitingSlot {
            number: it.bound().number,
            container: it.bound().container_id,
            key: shelf.key.shown(),
            image: shelf.recipe.admitted.image().to_owned(),
            policy: shelf.recipe.admitted.policy_name().to_owned(),
            age: it.age(),
        })
        .collect()
    }

    /// Fills and empties shelves until it is told to stop; then nothing waits any more.
    pub async fn keep(host: &Arc<Host>, stop: &CancellationToken) {
        let pool = &host.pool;
        let mut making = JoinSet::new();
        let mut resolved_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            match host.engine.present() {
                Some(present) => {
                    if resolved_at.is_none_or(|it| it.elapsed() >= RESOLVE_PAUSE) {
                        pool.resolve_wanted(host, &present).await;
                        resolved_at = Some(Instant::now());
                    }
                    retire(pool.unwanted(), &present).await;
                    while making.len() < MAKING_MAX
                        && let Some((key, recipe)) = pool.next()
                    {
                        making.spawn(make(host.clone(), present.clone(), key, recipe));
                    }
                }
                // Their containers died with it, or die with their connection.
                None => pool.clear(),
            }
            tokio::select! {
                () = pool.wake.notified() => {}
                Some(_) = making.join_next() => {}
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
        while making.join_next().await.is_some() {}
        if let Some(present) = host.engine.present() {
            let left = pool.lock().drain(..).flat_map(|it| it.waiting).collect();
            retire(left, &present).await;
        }
    }

    /// The kind that lacks most, which one more is made of.
    fn next(&self) -> Option<(Key, Arc<Recipe>)> {
        let now = Instant::now();
        let mut shelves = self.lock();
        let held: usize = shelves.iter().map(|it| it.waiting.len() + it.making).sum();
        if held >= self.slots_max {
            return None;
        }
        let lacking = |it: &Shelf| it.wanted(now).saturating_sub(it.waiting.len() + it.making);
        let shelf = shelves.iter_mut().filter(|it| it.not_before <= now).max_by_key(|it| lacking(it))?;
        if lacking(shelf) == 0 {
            return None;
        }
        shelf.making += 1;
        Some((shelf.key.clone(), shelf.recipe.clone()))
    }

    /// Takes what was made, or notes why it was not.
    fn made(&self, key: &Key, made: Result<Waiting, NotStanding>) {
        let mut shelves = self.lock();
        let Some(shelf) = shelves.iter_mut().find(|it| it.key == *key) else { return };
        shelf.making = shelf.making.saturating_sub(1);
        match made {
            Ok(waiting) => {
                shelf.failures = 0;
                let (number, image) = (waiting.bound().number, shelf.recipe.admitted.image());
                tracing::info!(
                    slot.number = number,
                    "a warm sandbox waits in slot {number} for tasks of `{image}`"
                );
                shelf.waiting.push_back(waiting);
            }
            Err(not) => {
                shelf.failures = shelf.failures.saturating_add(1);
                let pause = Duration::from_secs(1).saturating_mul(1 << shelf.failures.min(6));
                shelf.not_before = Instant::now() + pause.min(PAUSE_MAX);
                tracing::warn!("a warm sandbox could not be made: {not}");
            }
        }
    }

    /// What is too many, too old or in doubt; shelves that nobody asks for any more go, too.
    fn unwanted(&self) -> Vec<Waiting> {
        let now = Instant::now();
        let mut shelves = self.lock();
        let mut out = Vec::new();
        for shelf in shelves.iter_mut() {
            let mut kept = VecDeque::new();
            for mut waiting in shelf.waiting.drain(..) {
                if waiting.is_sound() { kept.push_back(waiting) } else { out.push(waiting) }
            }
            let surplus = kept.len().saturating_sub(shelf.wanted(now));
            out.extend(kept.drain(..surplus));
            shelf.waiting = kept;
        }
        shelves.retain(|it| it.making > 0 || !it.waiting.is_empty() || it.wanted(now) > 0);
        out
    }

    /// Lets everything go. What nobody is connected to ends by itself.
    fn clear(&self) {
        self.lock().iter_mut().for_each(|it| it.waiting.clear());
    }

    /// Resolves what the operator wants: an image or a policy that changed is another kind of sandbox.
    async fn resolve_wanted(&self, host: &Host, present: &Present) {
        let mut minimums = Vec::new();
        for (at, wanted) in self.wanted.iter().enumerate() {
            let unkept = match resolved(wanted, host, present).await {
                Ok(Kept::Of(key, recipe)) => {
                    minimums.push((*key, *recipe, wanted.count));
                    None
                }
                Ok(Kept::Nothing(reason)) => Some(reason.to_owned()),
                Err(error) => Some(error.to_string()),
            };
            self.tell_unkept(at, &wanted.image, unkept);
        }
        let now = Instant::now();
        let mut shelves = self.lock();
        shelves.iter_mut().for_each(|it| it.minimum = 0);
        for (key, recipe, count) in minimums {
            if let Some(shelf) = shelf(&mut shelves, key, now, || recipe) {
                shelf.minimum = count;
            }
        }
    }

    /// A reason is told when it is a new one, not every time that it is found again.
    fn tell_unkept(&self, at: usize, image: &str, reason: Option<String>) {
        let mut told = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = told.get_mut(at).filter(|it| **it != reason) else { return };
        match &reason {
            Some(reason) => tracing::warn!("no warm sandbox is kept of `{image}`: {reason}"),
            None => tracing::info!("warm sandboxes are kept of `{image}` again"),
        }
        *before = reason;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn wanted(&self, now: Instant) -> usize {
        self.demand.wanted(now, self.minimum)
    }
}

/// The shelf of a key, made if there is room for one more; the least asked for makes room.
fn shelf(
    shelves: &mut Vec<Shelf>,
    key: Key,
    now: Instant,
    recipe: impl FnOnce() -> Recipe,
) -> Option<&mut Shelf> {
    let at = match shelves.iter().position(|it| it.key == key) {
        Some(at) => at,
        None => {
            if shelves.len() >= SHELVES_MAX {
                let idle = |it: &Shelf| it.minimum == 0 && it.making == 0 && it.waiting.is_empty();
                let least = shelves.iter().position(idle)?;
                shelves.swap_remove(least);
            }
            shelves.push(Shelf {
                key,
                recipe: Arc::new(recipe()),
                minimum: 0,
                demand: Demand::none(now),
                waiting: VecDeque::new(),
                making: 0,
                failures: 0,
                not_before: now,
            });
            shelves.len() - 1
        }
    };
    shelves.get_mut(at)
}

async fn make(host: Arc<Host>, present: Arc<Present>, key: Key, recipe: Arc<Recipe>) {
    let Recipe { admitted, image } = &*recipe;
    let place = provision::place(admitted, &host.directories, &host.amounts, &present.facts);
    let made = match place {
        Ok(place) => Waiting::make(&present.engine, &place, admitted, image, key.clone()).await,
        Err(error) => Err(NotStanding::unplaced(&error)),
    };
    if made.is_err() {
        // It may be the engine that went away.
        host.engine.check().await;
    }
    host.pool.made(&key, made);
}

async fn retire(unwanted: Vec<Waiting>, present: &Present) {
    for waiting in unwanted {
        waiting.retire(&present.engine).await;
    }
}

async fn resolved(wanted: &SlotsWanted, host: &Host, present: &Present) -> Result<Kept, AppError> {
    let submission = Submission {
        policy: PolicySource::Named(wanted.policy.clone()),
        overrides: Overrides::NONE,
        command: Vec::new(),
        image: wanted.image.clone(),
        workspace: None,
        workdir: None,
        environment: Vec::new(),
        secrets: Vec::new(),
        outputs: Vec::new(),
        keep_changes: false,
        grace_ms: 0,
        attached: None,
    };
    let understood = understand(&submission, Named::default(), &host.amounts)?;
    let pull = understood.resolved.policy.images.pull;
    let image = provision::brokered_image(&present.engine, &wanted.image, pull).await?;
    let admitted = admit(&understood.task, &understood.resolved, &image.id, &understood.runtime);
    let admitted = admitted.map_err(AppError::Denied)?;
    let place = provision::place(&admitted, &host.directories, &host.amounts, &present.facts)?;
    if admitted.policy().network.inspects_tls() {
        return Ok(Kept::Nothing(
            "its policy ends TLS, and such a sandbox trusts an authority of its own run",
        ));
    }
    Ok(match Key::of(&place, &admitted, &image) {
        Some(key) => Kept::Of(Box::new(key), Box::new(Recipe { admitted, image })),
        None => Kept::Nothing("its sandboxes cannot be described before their run is known"),
    })
}
