//! The table `[retention]` of the operator's configuration: days and amounts; what is left out is as usual.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::retention::Retention;
use crate::intake::size;

/// Days of anything at the most: a hundred years.
const DAYS_MAX: u32 = 36_500;
const DAY_S: u64 = 24 * 60 * 60;

/// The table as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionDocument {
    run_days: Option<Spanned<u32>>,
    snapshot_days: Option<Spanned<u32>>,
    upload_days: Option<Spanned<u32>>,
    audit_days: Option<Spanned<u32>>,
    logs: Option<Spanned<String>>,
    changes: Option<Spanned<String>>,
    artifacts: Option<Spanned<String>>,
    uploads: Option<Spanned<String>>,
    images: Option<Spanned<String>>,
}

impl RetentionDocument {
    /// Puts what is said in the place of what is usual; a mistake is told with where it stands.
    pub fn read(&self, retention: &mut Retention, mistake: &mut impl FnMut(usize, String)) {
        let mut days = |asked: &Option<Spanned<u32>>| {
            let asked = asked.as_ref()?;
            if (1..=DAYS_MAX).contains(asked.get_ref()) {
                return Some(*asked.get_ref());
            }
            mistake(asked.span().start, format!("a number of days is 1 to {DAYS_MAX}"));
            None
        };
        if let Some(count) = days(&self.run_days) {
            retention.days = count;
        }
        if let Some(count) = days(&self.audit_days) {
            retention.audit_days = count;
        }
        for (asked, age) in [
            (&self.snapshot_days, &mut retention.snapshot_age_max),
            (&self.upload_days, &mut retention.upload_age_max),
        ] {
            if let Some(count) = days(asked) {
                *age = Duration::from_secs(u64::from(count) * DAY_S);
            }
        }
        for (asked, bytes_max) in [
            (&self.logs, &mut retention.log_bytes_max),
            (&self.changes, &mut retention.changes_bytes_max),
            (&self.artifacts, &mut retention.artifact_bytes_max),
            (&self.uploads, &mut retention.upload_bytes_max),
            (&self.images, &mut retention.image_bytes_max),
        ] {
            let Some(asked) = asked else { continue };
            match size::parse(asked.get_ref()) {
                Ok(bytes) => *bytes_max = bytes,
                Err(error) => mistake(asked.span().start, error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Retention, Vec<String>) {
        let document: RetentionDocument = toml::from_str(text).expect("it is of its form");
        let (mut retention, mut mistakes) = (Retention::standard(), Vec::new());
        document.read(&mut retention, &mut |_, message| mistakes.push(message));
        (retention, mistakes)
    }

    #[test]
    fn what_is_said_counts_and_the_rest_is_as_usual() {
        let (retention, mistakes) = read("run_days = 7\nupload_days = 1\nartifacts = \"1GiB\"\n");
        let usual = Retention::standard();
        let upload_age_max = Duration::from_secs(DAY_S);
        assert_eq!(retention, Retention { days: 7, upload_age_max, artifact_bytes_max: 1 << 30, ..usual });
        assert_eq!(mistakes, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        assert_eq!(read("run_days = 0\nlogs = \"many\"\n").1.len(), 2);
    }
}
