//! The table of `aegis ps`.

use crate::record::RunBrief;
use crate::report::amount;
use crate::report::summary::{command, cut, shown};
use crate::report::table;

/// Characters of the columns whose length others choose.
const TEXT_CHARS_MAX: usize = 32;
const COMMAND_CHARS_MAX: usize = 60;

/// The table, a line each with its head, newest first. Without runs it says so.
pub fn table(runs: &[RunBrief], now_ms: i64) -> String {
    if runs.is_empty() {
        return "no runs\n".to_owned();
    }
    let head = ["RUN", "STATE", "AGE", "TIME", "POLICY", "IMAGE", "NAME", "COMMAND"].map(str::to_owned);
    let mut rows = vec![head];
    for run in runs {
        rows.push(row(run, now_ms));
    }
    table::text(&rows)
}

fn row(run: &RunBrief, now_ms: i64) -> [String; 8] {
    let state = match &run.outcome {
        Some(outcome) => cut(&shown(&outcome.to_string()), TEXT_CHARS_MAX),
        None => run.state.name().to_owned(),
    };
    let time = match (run.released_ms, run.ended_ms) {
        (Some(released), ended) => {
            let passed = ended.unwrap_or(now_ms).saturating_sub(released);
            amount::milliseconds(u64::try_from(passed).unwrap_or(0))
        }
        (None, _) => "-".to_owned(),
    };
    [
        run.id.short(),
        state,
        amount::ago(run.created_ms, now_ms),
        time,
        cut(&shown(&run.policy_name), TEXT_CHARS_MAX),
        cut(&shown(&run.image), TEXT_CHARS_MAX),
        run.name.as_deref().map_or_else(|| "-".to_owned(), |it| cut(&shown(it), TEXT_CHARS_MAX)),
        cut(&command(&run.command), COMMAND_CHARS_MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::CREATED_MS;
    use crate::task::{Outcome, RunState};

    fn brief(outcome: Option<Outcome>) -> RunBrief {
        RunBrief {
            id: "01912345-6789-7abc-8def-0123456789ab".parse().expect("an id"),
            name: None,
            labels: vec![],
            command: vec![b"printf".to_vec(), b"\x1b[2J".to_vec()],
            image: "aegis/base".to_owned(),
            policy_name: "strict".to_owned(),
            state: if outcome.is_some() { RunState::Done } else { RunState::Running },
            released_ms: Some(CREATED_MS),
            ended_ms: outcome.as_ref().map(|_| CREATED_MS + 1_240),
            outcome,
            created_ms: CREATED_MS,
        }
    }

    fn check(runs: &[RunBrief], expected: &[&str]) {
        let table = table(runs, CREATED_MS + 61_000);
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn runs_are_told_with_outcome_age_and_time() {
        check(
            &[brief(None), brief(Some(Outcome::Exited(0)))],
            &[
                "RUN           STATE      AGE        TIME       POLICY  IMAGE       NAME  COMMAND",
                "0123456789ab  running    1 min ago  1 min 1 s  strict  aegis/base  -     printf '\\x1b[2J'",
                "0123456789ab  exited(0)  1 min ago  1.24 s     strict  aegis/base  -     printf '\\x1b[2J'",
            ],
        );
    }

    #[test]
    fn an_empty_list_says_so() {
        check(&[], &["no runs"]);
    }
}
