//! The order of policies. For each field there is "at most as permissive as"; two policies meet in the stricter value
//! of each. The comparison is exact and total: equal policies are equal field by field, and nothing is approximated.

use std::collections::{BTreeMap, BTreeSet};

use crate::intake::secret_name::ANY_NAME;
use crate::intake::secret_path::ANY_SECRET;
use crate::policy::{
    Filesystem, Images, Network, Outputs, Policy, Process, Pull, Resources, SecretOutputs, Secrets,
    WorkspaceMedium,
};

/// The name that stands for every runtime.
pub const ANY_RUNTIME: &str = "*";

/// The stricter of both, field by field.
pub fn meet(left: &Policy, right: &Policy) -> Policy {
    Policy {
        filesystem: meet_filesystem(&left.filesystem, &right.filesystem),
        process: Process { ptrace: left.process.ptrace && right.process.ptrace },
        resources: meet_resources(&left.resources, &right.resources),
        outputs: Outputs {
            bytes: left.outputs.bytes.min(right.outputs.bytes),
            entries: left.outputs.entries.min(right.outputs.entries),
            depth: left.outputs.depth.min(right.outputs.depth),
            secrets: left.outputs.secrets.min(right.outputs.secrets),
        },
        network: left.network.meet(&right.network),
        images: meet_images(&left.images, &right.images),
        runtimes: meet_names(&left.runtimes, &right.runtimes, ANY_RUNTIME),
        secrets: Secrets {
            files: meet_names(&left.secrets.files, &right.secrets.files, ANY_NAME),
            environment: meet_names(&left.secrets.environment, &right.secrets.environment, ANY_NAME),
        },
    }
}

/// Whether `left` permits nothing that `right` does not, in any field. A partial order.
pub fn le(left: &Policy, right: &Policy) -> bool {
    le_filesystem(&left.filesystem, &right.filesystem)
        && left.process.ptrace <= right.process.ptrace
        && le_resources(&left.resources, &right.resources)
        && left.outputs.bytes <= right.outputs.bytes
        && left.outputs.entries <= right.outputs.entries
        && left.outputs.depth <= right.outputs.depth
        && left.network.le(&right.network)
        && le_images(&left.images, &right.images)
        && le_names(&left.runtimes, &right.runtimes, ANY_RUNTIME)
        && left.outputs.secrets <= right.outputs.secrets
        && le_names(&left.secrets.files, &right.secrets.files, ANY_NAME)
        && le_names(&left.secrets.environment, &right.secrets.environment, ANY_NAME)
}

/// The policy that permits nothing: what a file that extends no other starts from.
pub fn bottom() -> Policy {
    Policy {
        filesystem: Filesystem {
            workspace: WorkspaceMedium::None,
            workspace_bytes: 0,
            workspace_files: 0,
            tmp_bytes: 0,
            home_bytes: 0,
            run_bytes: 0,
            shm_bytes: 0,
            include_secrets: BTreeSet::new(),
        },
        process: Process { ptrace: false },
        resources: Resources {
            memory_bytes: 0,
            cpus_milli: 0,
            pids: 0,
            nofile_soft: 0,
            nofile_hard: 0,
            wall_time_ms: 0,
            output_bytes: 0,
        },
        outputs: Outputs { bytes: 0, entries: 0, depth: 0, secrets: SecretOutputs::Block },
        network: Network::none(),
        images: Images {
            pull: Pull::Never,
            allow: BTreeSet::from([BTreeSet::new()]),
            require_digest: true,
            pins: BTreeMap::new(),
        },
        runtimes: BTreeSet::new(),
        secrets: Secrets { files: BTreeSet::new(), environment: BTreeSet::new() },
    }
}

/// Whether a set of secrets' names has this one.
pub fn names_secret(names: &BTreeSet<String>, name: &str) -> bool {
    names.contains(name) || names.contains(ANY_NAME)
}

/// Whether a set of runtimes accepts this one.
pub fn accepts_runtime(runtimes: &BTreeSet<String>, name: &str) -> bool {
    runtimes.contains(name) || runtimes.contains(ANY_RUNTIME)
}

fn meet_filesystem(left: &Filesystem, right: &Filesystem) -> Filesystem {
    Filesystem {
        workspace: left.workspace.min(right.workspace),
        workspace_bytes: left.workspace_bytes.min(right.workspace_bytes),
        workspace_files: left.workspace_files.min(right.workspace_files),
        tmp_bytes: left.tmp_bytes.min(right.tmp_bytes),
        home_bytes: left.home_bytes.min(right.home_bytes),
        run_bytes: left.run_bytes.min(right.run_bytes),
        shm_bytes: left.shm_bytes.min(right.shm_bytes),
        include_secrets: meet_names(&left.include_secrets, &right.include_secrets, ANY_SECRET),
    }
}

fn le_filesystem(left: &Filesystem, right: &Filesystem) -> bool {
    left.workspace <= right.workspace
        && left.workspace_bytes <= right.workspace_bytes
        && left.workspace_files <= right.workspace_files
        && left.tmp_bytes <= right.tmp_bytes
        && left.home_bytes <= right.home_bytes
        && left.run_bytes <= right.run_bytes
        && left.shm_bytes <= right.shm_bytes
        && le_names(&left.include_secrets, &right.include_secrets, ANY_SECRET)
}

fn meet_resources(left: &Resources, right: &Resources) -> Resources {
    Resources {
        memory_bytes: left.memory_bytes.min(right.memory_bytes),
        cpus_milli: left.cpus_milli.min(right.cpus_milli),
        pids: left.pids.min(right.pids),
        nofile_soft: left.nofile_soft.min(right.nofile_soft),
        nofile_hard: left.nofile_hard.min(right.nofile_hard),
        wall_time_ms: left.wall_time_ms.min(right.wall_time_ms),
        output_bytes: left.output_bytes.min(right.output_bytes),
    }
}

fn le_resources(left: &Resources, right: &Resources) -> bool {
    left.memory_bytes <= right.memory_bytes
        && left.cpus_milli <= right.cpus_milli
        && left.pids <= right.pids
        && left.nofile_soft <= right.nofile_soft
        && left.nofile_hard <= right.nofile_hard
        && left.wall_time_ms <= right.wall_time_ms
        && left.output_bytes <= right.output_bytes
}

/// Sets of globs and pins are demands: both sides' hold.
fn meet_images(left: &Images, right: &Images) -> Images {
    let mut pins = left.pins.clone();
    for (reference, ids) in &right.pins {
        pins.entry(reference.clone()).or_default().extend(ids.iter().cloned());
    }
    Images {
        pull: left.pull.min(right.pull),
        allow: left.allow.union(&right.allow).cloned().collect(),
        require_digest: left.require_digest || right.require_digest,
        pins,
    }
}

fn le_images(left: &Images, right: &Images) -> bool {
    let pinned = |(reference, ids): (&String, &BTreeSet<String>)| {
        left.pins.get(reference).is_some_and(|it| ids.is_subset(it))
    };
    left.pull <= right.pull
        && right.allow.is_subset(&left.allow)
        && right.require_digest <= left.require_digest
        && right.pins.iter().all(pinned)
}

/// Sets with the name that stands for any stand above all sets without it. Among themselves they mean the same, and are
/// ordered as demands so that the order stays antisymmetric. Globs are compared as texts.
fn meet_names(left: &BTreeSet<String>, right: &BTreeSet<String>, any: &str) -> BTreeSet<String> {
    match (left.contains(any), right.contains(any)) {
        (true, true) => left.union(right).cloned().collect(),
        (true, false) => right.clone(),
        (false, true) => left.clone(),
        (false, false) => left.intersection(right).cloned().collect(),
    }
}

fn le_names(left: &BTreeSet<String>, right: &BTreeSet<String>, any: &str) -> bool {
    match (left.contains(any), right.contains(any)) {
        (true, true) => right.is_subset(left),
        (true, false) => false,
        (false, true) => true,
        (false, false) => left.is_subset(right),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::network::Union;
    use crate::policy::network::model::networks;

    fn names() -> impl Strategy<Value = BTreeSet<String>> {
        btree_set(prop::sample::select(vec!["runc", "crun", "kata", "*"]).prop_map(str::to_owned), 0..4)
    }

    fn globs() -> impl Strategy<Value = BTreeSet<String>> {
        btree_set(prop::sample::select(vec!["*", "aegis/*", "debian:12"]).prop_map(str::to_owned), 0..3)
    }

    fn secrets() -> impl Strategy<Value = BTreeSet<String>> {
        btree_set(prop::sample::select(vec![".env", "*/.npmrc", "**"]).prop_map(str::to_owned), 0..3)
    }

    fn granted() -> impl Strategy<Value = BTreeSet<String>> {
        btree_set(prop::sample::select(vec!["KEY", "TOKEN", "*"]).prop_map(str::to_owned), 0..3)
    }

    fn images() -> impl Strategy<Value = Images> {
        let pull = prop::sample::select(Pull::ALL.to_vec());
        let ids = btree_set(prop::sample::select(vec!["sha256:1", "sha256:2"]).prop_map(str::to_owned), 1..3);
        let pins = btree_map(prop::sample::select(vec!["a:1", "b:1"]).prop_map(str::to_owned), ids, 0..3);
        (pull, btree_set(globs(), 0..3), any::<bool>(), pins)
            .prop_map(|(pull, allow, require_digest, pins)| Images { pull, allow, require_digest, pins })
    }

    fn filesystem() -> impl Strategy<Value = Filesystem> {
        (prop::sample::select(WorkspaceMedium::ALL.to_vec()), prop::array::uniform6(0..4u64), secrets())
            .prop_map(|(workspace, sizes, include_secrets)| Filesystem {
                workspace,
                workspace_bytes: sizes[0],
                workspace_files: sizes[1],
                tmp_bytes: sizes[2],
                home_bytes: sizes[3],
                run_bytes: sizes[4],
                shm_bytes: sizes[5],
                include_secrets,
            })
    }

    fn resources() -> impl Strategy<Value = Resources> {
        prop::array::uniform7(0..4u64).prop_map(|amounts| Resources {
            memory_bytes: amounts[0],
            cpus_milli: amounts[1],
            pids: amounts[2],
            nofile_soft: amounts[3],
            nofile_hard: amounts[4],
            wall_time_ms: amounts[5],
            output_bytes: amounts[6],
        })
    }

    /// Policies with few values per field, so that two of them often agree in some.
    pub(crate) fn policies() -> impl Strategy<Value = Policy> {
        let outputs = (prop::array::uniform3(0..4u64), prop::sample::select(SecretOutputs::ALL.to_vec()));
        let secrets = (granted(), granted());
        let sides = (networks(), images(), names(), secrets);
        (filesystem(), any::<bool>(), resources(), outputs, sides).prop_map(
            |(filesystem, ptrace, resources, (outputs, exposed), (network, images, runtimes, secrets))| {
                Policy {
                    filesystem,
                    process: Process { ptrace },
                    resources,
                    outputs: Outputs {
                        bytes: outputs[0],
                        entries: outputs[1],
                        depth: outputs[2],
                        secrets: exposed,
                    },
                    network,
                    images,
                    runtimes,
                    secrets: Secrets { files: secrets.0, environment: secrets.1 },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn meet_is_commutative(a in policies(), b in policies()) {
            prop_assert_eq!(meet(&a, &b), meet(&b, &a));
        }

        #[test]
        fn meet_is_associative(a in policies(), b in policies(), c in policies()) {
            prop_assert_eq!(meet(&meet(&a, &b), &c), meet(&a, &meet(&b, &c)));
        }

        #[test]
        fn meet_is_idempotent(a in policies()) {
            prop_assert_eq!(meet(&a, &a), a);
        }

        #[test]
        fn meet_is_never_above_either_side(a in policies(), b in policies()) {
            let both = meet(&a, &b);
            prop_assert!(le(&both, &a) && le(&both, &b));
        }

        #[test]
        fn meet_is_the_greatest_below_both(a in policies(), b in policies(), c in policies()) {
            let below = meet(&c, &meet(&a, &b));
            prop_assert!(le(&below, &meet(&a, &b)));
            prop_assert_eq!(le(&c, &a) && le(&c, &b), le(&c, &meet(&a, &b)));
        }

        #[test]
        fn the_order_is_that_of_meet(a in policies(), b in policies()) {
            prop_assert_eq!(le(&a, &b), meet(&a, &b) == a);
        }

        #[test]
        fn the_order_is_antisymmetric(a in policies(), b in policies()) {
            prop_assert_eq!(le(&a, &b) && le(&b, &a), a == b);
        }

        #[test]
        fn the_order_is_transitive(a in policies(), b in policies(), c in policies()) {
            let (low, middle) = (meet(&meet(&a, &b), &c), meet(&a, &b));
            prop_assert!(le(&low, &middle) && le(&middle, &a) && le(&low, &a));
        }

        #[test]
        fn bottom_with_its_demands_is_below_everything_that_pins_nothing(mut a in policies()) {
            a.images.pins.clear();
            a.network.deny = Union::EMPTY;
            a.images.allow = BTreeSet::new();
            prop_assert!(le(&bottom(), &a));
        }

        #[test]
        fn a_secret_is_named_if_both_sides_name_it(a in granted(), b in granted()) {
            for name in ["KEY", "TOKEN", "OTHER"] {
                let both = names_secret(&a, name) && names_secret(&b, name);
                prop_assert_eq!(names_secret(&meet_names(&a, &b, ANY_NAME), name), both);
            }
        }

        #[test]
        fn an_accepted_runtime_is_accepted_by_both_sides(a in names(), b in names()) {
            for name in ["runc", "crun", "kata", "other"] {
                let both = accepts_runtime(&a, name) && accepts_runtime(&b, name);
                prop_assert_eq!(accepts_runtime(&meet_names(&a, &b, ANY_RUNTIME), name), both);
            }
        }
    }
}
