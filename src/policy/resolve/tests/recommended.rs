//! For any flags and ceilings: nothing is wider than the ceiling, and following what a denial says passes.

use proptest::prelude::*;

use crate::policy::amount::Amount;
use crate::policy::ceiling::tests::HOST;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::lattice::le;
use crate::policy::network::tests::rule;
use crate::policy::resolve::tests::{ceiling, chosen};
use crate::policy::{Ceiling, Overrides, Pull, resolve};

fn overrides() -> impl Strategy<Value = Overrides> {
    let amount = || prop::option::of(prop_oneof![0..10_000u64, any::<u64>()]);
    let pull = prop::option::of(prop::sample::select(Pull::ALL.to_vec()));
    let runtime = prop::option::of(prop::sample::select(vec!["runc", "crun"]).prop_map(str::to_owned));
    let allow_net = prop::collection::vec(prop::sample::select(vec![rule("a.org"), rule("b.org")]), 0..3);
    let amounts = (amount(), amount(), amount(), amount(), amount(), amount(), amount());
    (amounts, pull, runtime, allow_net, any::<bool>()).prop_map(
        |(amounts, pull, runtime, allow_net, egress_audit)| {
            let (memory_bytes, cpus_milli, pids, tmp_bytes, workspace_bytes, output_bytes, wall_time_ms) =
                amounts;
            Overrides {
                memory_bytes,
                cpus_milli,
                pids,
                tmp_bytes,
                workspace_bytes,
                output_bytes,
                wall_time_ms,
                pull,
                runtime,
                allow_net,
                egress_audit,
            }
        },
    )
}

fn ceilings() -> impl Strategy<Value = Ceiling> {
    prop::sample::select(vec![
        "",
        "runtimes = [\"runc\"]\n[resources]\npids = 100\nmemory = \"32MiB\"",
        "[images]\npull = \"never\"\n[resources]\ncpus = 0.5\nwall_time = \"1m\"",
        "[network]\negress = \"none\"",
        "[network]\naudit = true\n[[network.allow]]\nhost = \"a.org\"",
        "[filesystem]\ntmp_size = \"64KiB\"\n[resources]\noutput_size = \"2GiB\"",
    ])
    .prop_map(ceiling)
}

/// Asks for what a denial says is allowed, by the text that it says to type.
fn follow(denial: &Denial, overrides: &mut Overrides) {
    match denial.field {
        Field::Egress | Field::NetworkAllow | Field::EgressAudit => {
            assert!(denial.hint.starts_with("leave `--"), "{}", denial.hint);
            overrides.egress_audit &= denial.field == Field::NetworkAllow;
            overrides.allow_net.retain(|_| denial.field == Field::EgressAudit);
            return;
        }
        _ => {}
    }
    let allowed = denial.allowed.as_ref().expect("a flag's denial says what passes");
    let typed = allowed.as_flag();
    assert_eq!(denial.hint, format!("pass `{} {typed}`", overrides.flag_of(denial.field)));
    match denial.field {
        Field::Amount(amount) => {
            let value = Some(amount.parse(&typed).expect("what is recommended can be typed"));
            match amount {
                Amount::Memory => overrides.memory_bytes = value,
                Amount::Cpus => overrides.cpus_milli = value,
                Amount::Pids => overrides.pids = value,
                Amount::TmpSize => overrides.tmp_bytes = value,
                Amount::WorkspaceSize => overrides.workspace_bytes = value,
                Amount::OutputSize => overrides.output_bytes = value,
                Amount::WallTime => overrides.wall_time_ms = value,
                other => unreachable!("{other:?} has no flag"),
            }
        }
        Field::Pull => overrides.pull = Pull::ALL.into_iter().find(|it| it.word() == typed),
        Field::Runtimes => overrides.runtime = Some(typed),
        other => unreachable!("{other:?} has no flag"),
    }
}

proptest! {
    #[test]
    fn nothing_is_ever_wider_than_the_ceiling(flags in overrides(), ceiling in ceilings()) {
        let resolved = resolve(&chosen(""), &flags, &ceiling, &HOST);
        prop_assert!(le(&resolved.policy, &ceiling.policy));
        prop_assert!(resolved.policy.resources.nofile_soft <= resolved.policy.resources.nofile_hard);
    }

    #[test]
    fn what_a_denial_recommends_passes(mut flags in overrides(), ceiling in ceilings()) {
        let first = resolve(&chosen(""), &flags, &ceiling, &HOST);
        for denial in &first.denials {
            follow(denial, &mut flags);
        }
        let second = resolve(&chosen(""), &flags, &ceiling, &HOST);
        prop_assert_eq!(second.denials, vec![]);
    }

    #[test]
    fn what_is_asked_is_granted_or_denied_or_reported(flags in overrides(), ceiling in ceilings()) {
        let resolved = resolve(&chosen(""), &flags, &ceiling, &HOST);
        for asked in flags.settings(&chosen("").policy) {
            let granted = resolved.policy.settings().contains(&asked);
            let denied = resolved.denials.iter().any(|it| it.field == asked.field());
            let clipped = resolved.clipped.iter().any(|it| it.field == asked.field());
            prop_assert!(granted || denied || clipped);
        }
    }
}

#[test]
fn what_is_recommended_for_a_file_passes() {
    let ceiling = ceiling("runtimes = [\"runc\"]\n[resources]\npids = 100");
    let first =
        resolve(&chosen("runtimes = [\"crun\"]\n[resources]\npids = 200"), &Overrides::NONE, &ceiling, &HOST);
    let mut text = String::new();
    for denial in &first.denials {
        let line =
            denial.hint.strip_prefix("write `").and_then(|it| it.split_once('`')).expect("a line to write");
        text.push_str(&format!("{}\n", line.0));
    }
    assert_eq!(text, "resources.pids = 100\nruntimes = [\"runc\"]\n");
    assert_eq!(resolve(&chosen(&text), &Overrides::NONE, &ceiling, &HOST).denials, vec![]);
}
