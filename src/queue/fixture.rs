//! Submissions for tests.

use crate::policy::Overrides;
use crate::policy::network::Rule;
use crate::queue::{Attached, NewSubmission, PolicySource, Schedule, Submission, Worker};
use crate::record::{NewRun, Owner, fixture};
use crate::task::{OutputRequest, SecretPlace, SecretRequest};

/// A submission with one of everything.
pub(crate) fn submission() -> Submission {
    let rule = Rule::of_flag("api.example.org:8443").expect("a rule");
    Submission {
        policy: PolicySource::Document { name: "mine".to_owned(), text: "extends = \"strict\"".to_owned() },
        overrides: Overrides {
            memory_bytes: Some(1 << 30),
            runtime: Some("runc".to_owned()),
            allow_net: vec![rule],
            ..Overrides::NONE
        },
        command: vec![b"sh".to_vec(), b"-c".to_vec(), b"exit \xff".to_vec()],
        image: "aegis/base".to_owned(),
        workspace: Some(format!("sha256:{}", "ab".repeat(32))),
        workdir: None,
        environment: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
        secrets: vec![
            SecretRequest { name: "key".to_owned(), place: SecretPlace::File("key".to_owned()) },
            SecretRequest { name: "key".to_owned(), place: SecretPlace::Variable("KEY".to_owned()) },
        ],
        outputs: vec![OutputRequest { pattern: "report/*.xml".to_owned() }],
        keep_changes: true,
        grace_ms: 10_000,
        attached: Some(Attached::Both),
    }
}

/// A plain run of a project.
pub(crate) fn new(project: &str) -> NewSubmission {
    NewSubmission {
        run: NewRun { owner: None, ..fixture::new_run(&fixture::owner()) },
        project: project.to_owned(),
        submitter: "uid:1000".to_owned(),
        submission: submission(),
        schedule: Schedule { attempts_max: 3, ..Schedule::default() },
        idempotency: None,
    }
}

/// A worker of this name without labels.
pub(crate) fn worker(name: &str, owner: &Owner) -> Worker {
    Worker { name: name.to_owned(), owner: owner.clone(), labels: Vec::new(), capacity: 1 }
}
