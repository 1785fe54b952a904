//! Groups of this host, as the account database has them. Directories beyond `/etc/group` are asked through `getent`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::app::read_bounded;

/// Bytes of an account database.
const DATABASE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A group's name and its members, among them those whose first group it is; root is not counted. The number is the name
/// where the group has none.
pub fn group(gid: u32) -> (String, Option<Vec<String>>) {
    let Ok(groups) = read_bounded(Path::new("/etc/group"), DATABASE_BYTES_MAX) else {
        return (gid.to_string(), None);
    };
    let line = listed(&groups, gid).or_else(|| getent(gid));
    let passwd = read_bounded(Path::new("/etc/passwd"), DATABASE_BYTES_MAX).unwrap_or_default();
    match line {
        Some(line) => {
            let (name, members) = members(&line, &passwd, gid);
            (name, Some(members))
        }
        None => (gid.to_string(), None),
    }
}

/// Whether this process is in a group of this name.
pub fn reaches(name: &str) -> bool {
    let own = std::iter::once(rustix::process::getegid())
        .chain(rustix::process::getgroups().unwrap_or_default())
        .map(|it| it.as_raw());
    own.into_iter().any(|gid| group(gid).0 == name)
}

fn listed(groups: &str, gid: u32) -> Option<String> {
    let is = |line: &&str| line.split(':').nth(2).and_then(|it| it.parse().ok()) == Some(gid);
    groups.lines().find(is).map(str::to_owned)
}

/// `getent` ends by itself: its sources have deadlines of their own.
fn getent(gid: u32) -> Option<String> {
    let output =
        Command::new("getent").args(["group", &gid.to_string()]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn members(line: &str, passwd: &str, gid: u32) -> (String, Vec<String>) {
    let mut fields = line.split(':');
    let name = fields.next().unwrap_or_default().to_owned();
    let listed = fields.nth(2).unwrap_or_default();
    let mut members: Vec<String> =
        listed.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    for account in passwd.lines() {
        let fields: Vec<&str> = account.split(':').collect();
        if fields.get(3).and_then(|it| it.parse().ok()) == Some(gid) {
            members.extend(fields.first().map(|it| (*it).to_owned()));
        }
    }
    members.retain(|it| it != "root");
    members.sort();
    members.dedup();
    (name, members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nci:x:1001:107::/home/ci:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n";

    fn check(groups: &str, gid: u32, expected: (&str, &[&str])) {
        let line = listed(groups, gid).expect("it is listed");
        let (name, found) = members(&line, PASSWD, gid);
        assert_eq!(
            (name.as_str(), found.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
            expected
        );
    }

    #[test]
    fn members_are_those_listed_and_those_whose_first_group_it_is() {
        check("adm:x:4:\ndocker:x:107:alice,bob\n", 107, ("docker", &["alice", "bob", "ci"]));
    }

    #[test]
    fn root_is_no_member_worth_naming() {
        check("root:x:0:\n", 0, ("root", &[]));
    }
}
