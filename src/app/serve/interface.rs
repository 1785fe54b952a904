//! The HTTP interface of this server, joined with what it speaks to: records, queue, tokens, policy, logs.

use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::access::Access;
use crate::api::listener::{Address, Group, Members, Plain, Tls};
use crate::api::services::{Admission, Answer, Asked, Limits, Refusal, Services};
use crate::api::{ListenError, Listener};
use crate::app::api::StoredLogs;
use crate::app::serve::Host;
use crate::app::serve::nearby::Nearby;
use crate::app::submission::{Named, Understood, understand};
use crate::app::{AppError, secrets};
use crate::config::Directories;
use crate::policy::HostAmounts;
use crate::queue::NewSubmission;
use crate::record::now_ms;
use crate::sandbox::workspace::upload;
use crate::store::{Logs, Store};

/// The group whose members may submit over the socket of the system's server.
const GROUP: &str = "aegis";
/// The socket, beside the instances' runtime directories.
const SOCKET: &str = "aegis.sock";

/// Where and how it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOrder {
    /// Where; none is the usual socket.
    pub addresses: Vec<Address>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// What TCP is to be without them.
    pub plain: Plain,
}

/// Opens everything that is to be listened at.
pub async fn listeners(order: &ListenOrder, directories: &Directories) -> Result<Vec<Listener>, ListenError> {
    let mut addresses = order.addresses.clone();
    if addresses.is_empty() {
        addresses.extend(directories.runtime.parent().map(|it| Address::Unix(it.join(SOCKET))));
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        listeners.push(match address {
            Address::Unix(path) => {
                // A person's own server is for that person.
                let is_system = path.starts_with("/run/aegis");
                let group = if is_system { Group::find(GROUP) } else { None };
                Listener::unix(&path, Members { own_uid, group }).await?
            }
            Address::Tcp(address) => {
                let pair = order.tls.clone();
                let tls = pair.map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
                Listener::tcp(address, tls, order.plain).await?
            }
        });
    }
    Ok(listeners)
}

/// What the routes speak to.
pub fn services(host: &Arc<Host>, store: &Store, metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Services {
    let state = &host.directories.state;
    let books = Arc::new(store.clone());
    let judge = Judge { state: state.clone(), amounts: host.amounts, access: books.clone() };
    let unready = host.clone();
    Services {
        record: books.clone(),
        queue: Arc::new(Nearby { host: host.clone() }),
        access: books.clone(),
        pages: books,
        admission: Arc::new(judge),
        logs: Arc::new(StoredLogs(Logs::new(state))),
        uploads: state.join(upload::DIRECTORY),
        unready: Arc::new(move || unready.unready()),
        metrics,
        limits: Limits::USUAL,
    }
}

/// What this process counts, as text. A second server of one process, as tests make it, counts with the first.
pub fn metrics() -> Arc<dyn Fn() -> String + Send + Sync> {
    match PrometheusBuilder::new().install_recorder() {
        Ok(handle) => Arc::new(move || handle.render()),
        Err(_) => Arc::new(String::new),
    }
}

/// Policy at submit: what this host and the run's project allow.
struct Judge {
    state: PathBuf,
    amounts: HostAmounts,
    access: Arc<dyn Access>,
}

impl Admission for Judge {
    fn admit(&self, asked: Asked) -> Answer<'_, Result<NewSubmission, Refusal>> {
        Box::pin(self.judge(asked))
    }
}

impl Judge {
    async fn judge(&self, asked: Asked) -> Result<NewSubmission, Refusal> {
        let named = Named { name: asked.name.clone(), labels: asked.labels.clone() };
        let understood = understand(&asked.submission, named, &self.amounts).map_err(refusal)?;
        let denials = understood.denials();
        if !denials.is_empty() {
            return Err(Refusal::Denied(denials));
        }
        self.within_project(&asked, &understood).await?;
        let redactor = secrets::redactor(&self.state).map_err(|it| refusal(it.into()))?;
        let run = understood.new_run(asked.id, &redactor, now_ms());
        let Asked { project, submitter, submission, schedule, idempotency, .. } = asked;
        Ok(NewSubmission { run, project, submitter, submission, schedule, idempotency })
    }

    /// A project that was never made has no secrets, and the images that policy allows.
    async fn within_project(&self, asked: &Asked, understood: &Understood) -> Result<(), Refusal> {
        let project = self.access.project(&asked.project).await.map_err(Refusal::Unavailable)?;
        let (images, secrets) = project.map(|it| (it.images, it.secrets)).unwrap_or_default();
        let wrong = |field: &str, message: String| Refusal::Wrong { field: field.to_owned(), message };
        let image = &understood.task.image;
        if images.is_some_and(|it| !it.contains(image)) {
            return Err(wrong(
                "image",
                format!("the project `{}` may not use this image: ask its administrator", asked.project),
            ));
        }
        let allowed = secrets.unwrap_or_default();
        for (index, secret) in understood.task.secrets.iter().enumerate() {
            if !allowed.contains(&secret.name) {
                let message = format!(
                    "the project `{}` may not be given this secret: ask its administrator",
                    asked.project
                );
                return Err(wrong(&format!("secrets[{index}]"), message));
            }
        }
        Ok(())
    }
}

/// What is the submitter's to mend is told; what is the server's is for its log.
fn refusal(error: AppError) -> Refusal {
    match error {
        AppError::Denied(denials) => Refusal::Denied(denials),
        AppError::Policy(error) => Refusal::Wrong { field: "policy".to_owned(), message: error.to_string() },
        AppError::Record(error) => Refusal::Unavailable(error),
        other => {
            tracing::error!(error = %other, "a submission could not be judged");
            Refusal::Wrong {
                field: ".".to_owned(),
                message: "the server cannot judge this run now: its log says why".to_owned(),
            }
        }
    }
}
