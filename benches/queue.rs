//! The queue of `aegis serve`: durable submissions a second, from many clients one by one and in batches, and the time from a
//! submission to its claim by a worker that waits. In SQLite, and in PostgreSQL where `AEGIS_BENCH_DATABASE` names a database of
//! the bench's own. The reference is the disk: so many small appends, each synced, in the same run. Then the whole way through
//! a queue in a database that is full against one that is empty.

mod full;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::policy::Overrides;
use aegis::queue::{NewSubmission, PolicySource, Queue, Schedule, Submission, Submitted, Worker};
use aegis::record::{Limits, NewRun, PolicyRecord, TaskRecord};
use aegis::store::{OwnerLock, Protection, Store};
use aegis::task::RunId;
use anyhow::{Context, bail};
use tokio::task::JoinSet;

use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::Series;
use crate::support::table::{Aim, Verdict, aimed, quantity};

/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// Clients that submit at the same time, and what each submits in a round.
const CLIENTS: [usize; 2] = [64, 256];
const EACH: usize = 40;
/// Runs of one batch, and batches of a round.
const BATCH: usize = 1_000;
const BATCHES: usize = 4;
/// Submissions whose way to a claim is measured.
const CLAIMS: usize = 300;
/// Appends of the reference, each synced.
const APPENDS: usize = 100;
const APPEND_BYTES: usize = 4096;
/// How long a claim may take.
const CLAIM_TIME_MAX: Duration = Duration::from_secs(30);

/// Measures and prints. The aims are rates of a disk and a processor: they are told; the bar is held against the empty queue.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let directory = instance.directory().join("queue");
    std::fs::create_dir(&directory)?;
    load::tell("before");
    println!("\nappends of {APPEND_BYTES} bytes, each synced: what a commit costs here");
    quantity("appends", &appends(&directory.join("appended"))?, "/s");
    let verdict = runtime.block_on(async {
        println!("\nthe queue in SQLite, medians (min to max)");
        of_store(Store::open(&directory).await?, &directory, 20_000.0).await?;
        if let Ok(url) = std::env::var("AEGIS_BENCH_DATABASE") {
            println!("\nthe queue in PostgreSQL, medians (min to max)");
            of_store(Store::connect(&url, Protection::Proven).await?, &directory, 10_000.0).await?;
        }
        full::against_empty(&directory).await
    })?;
    load::tell("after");
    Ok(verdict)
}

/// Synced appends a second.
fn appends(path: &std::path::Path) -> anyhow::Result<Series> {
    let mut rates = Series::default();
    let mut file = std::fs::File::create(path)?;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..APPENDS {
            file.write_all(&[7; APPEND_BYTES])?;
            file.sync_data()?;
        }
        rates.add(APPENDS as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(rates)
}

async fn of_store(store: Store, directory: &std::path::Path, rate_aim: f64) -> anyhow::Result<()> {
    let lock = OwnerLock::acquire(directory).context("a lock")?;
    let worker = worker(&lock);
    let (to_claim, p99) = claims(&store, &worker).await?;
    aimed("submission to claim, half of them", &to_claim, "ms", Aim::Below(3.0));
    aimed("submission to claim, 99 of 100", &p99, "ms", Aim::Below(15.0));
    for clients in CLIENTS {
        let rates = one_by_one(&store, clients).await?;
        aimed(&format!("one by one from {clients} clients"), &rates, "/s", Aim::Above(rate_aim));
    }
    aimed(&format!("in batches of {BATCH}"), &batches(&store).await?, "/s", Aim::Above(100_000.0));
    store.close().await;
    Ok(())
}

fn worker(lock: &OwnerLock) -> Worker {
    Worker { name: "bench".to_owned(), owner: lock.owner().clone(), labels: Vec::new(), capacity: 1 }
}

/// Submissions a second, each of which is on disk before its client goes on.
async fn one_by_one(store: &Store, clients: usize) -> anyhow::Result<Series> {
    let mut rates = Series::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..EACH {
                    submit(&store, &[new_run()]).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        rates.add((clients * EACH) as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(rates)
}

async fn batches(store: &Store) -> anyhow::Result<Series> {
    let mut rates = Series::default();
    for _ in 0..ROUNDS {
        let batch: Vec<_> = (0..BATCH).map(|_| new_run()).collect();
        let begun = Instant::now();
        for _ in 0..BATCHES {
            let batch: Vec<_> = batch.iter().cloned().map(renamed).collect();
            submit(store, &batch).await?;
        }
        rates.add((BATCH * BATCHES) as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(rates)
}

/// Milliseconds from a submission to its claim by a worker that waits, at the median and at the 99th of a hundred, by round.
async fn claims(store: &Store, worker: &Worker) -> anyhow::Result<(Series, Series)> {
    let (mut medians, mut highs) = (Series::default(), Series::default());
    for _ in 0..ROUNDS {
        let mut took = Vec::with_capacity(CLAIMS / ROUNDS);
        for _ in 0..CLAIMS / ROUNDS {
            took.push(claim(store, worker).await?);
        }
        took.sort_by(f64::total_cmp);
        medians.add(took[took.len() / 2]);
        highs.add(took[took.len() * 99 / 100]);
    }
    Ok((medians, highs))
}

async fn claim(store: &Store, worker: &Worker) -> anyhow::Result<f64> {
    let waiting = Arc::new(tokio::sync::Barrier::new(2));
    let (claimer, owner, ready) = (store.clone(), worker.clone(), Arc::clone(&waiting));
    let claimed = tokio::spawn(async move {
        let deadline = Instant::now() + CLAIM_TIME_MAX;
        let mut first = true;
        loop {
            let wait = claimer.wait();
            if !claimer.claim(&owner, 1).await?.is_empty() {
                return anyhow::Ok(Instant::now());
            }
            if std::mem::take(&mut first) {
                ready.wait().await;
            }
            if Instant::now() > deadline {
                bail!("nothing was claimed in {CLAIM_TIME_MAX:?}");
            }
            wait.await?;
        }
    });
    waiting.wait().await;
    let begun = Instant::now();
    submit(store, &[new_run()]).await?;
    Ok(claimed.await??.duration_since(begun).as_secs_f64() * 1e3)
}

async fn submit(store: &Store, batch: &[NewSubmission]) -> anyhow::Result<()> {
    match store.submit(batch).await? {
        Submitted::Accepted(_) => Ok(()),
        refused => bail!("the queue refused a submission: {refused:?}"),
    }
}

fn renamed(mut new: NewSubmission) -> NewSubmission {
    new.run.id = RunId::generate();
    new
}

/// A run as people submit them.
fn new_run() -> NewSubmission {
    let command = vec![b"make".to_vec(), b"test".to_vec()];
    NewSubmission {
        run: NewRun {
            id: RunId::generate(),
            name: Some("unit tests".to_owned()),
            labels: vec![("team".to_owned(), "core".to_owned())],
            task: TaskRecord {
                command: command.clone(),
                image: "aegis/base".to_owned(),
                workspace: None,
                workdir: None,
                environment_names: vec!["LANG".to_owned()],
                outputs: vec!["report/*.xml".to_owned()],
                secrets: Vec::new(),
            },
            workspace: None,
            policy: PolicyRecord {
                name: "strict".to_owned(),
                digest: format!("sha256:{}", "00".repeat(32)),
                asked: r#"{"sandbox":"strict"}"#.to_owned(),
                resolved: r#"{"policy":"strict"}"#.to_owned(),
                effective: r#"{"resources":{"memory":{"value":"1GiB","origin":"policy"}}}"#.to_owned(),
            },
            limits: LIMITS,
            owner: None,
            created_ms: 1_767_323_045_678,
        },
        project: "bench".to_owned(),
        submitter: "uid:0".to_owned(),
        submission: Submission {
            policy: PolicySource::Named("strict".to_owned()),
            overrides: Overrides::NONE,
            command,
            image: "aegis/base".to_owned(),
            workspace: None,
            workdir: None,
            environment: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
            secrets: Vec::new(),
            outputs: Vec::new(),
            keep_changes: false,
            grace_ms: 10_000,
            attached: None,
        },
        schedule: Schedule { attempts_max: 3, ..Schedule::default() },
        idempotency: None,
    }
}

const LIMITS: Limits = Limits {
    memory_bytes: 1 << 30,
    cpus_milli: 2000,
    pids: 256,
    wall_time_ms: 600_000,
    output_bytes: 64 << 20,
    workspace_bytes: 512 << 20,
    tmp_bytes: 256 << 20,
    home_bytes: 64 << 20,
    run_bytes: 16 << 20,
    shm_bytes: 64 << 20,
};
