//! Who is at the other end of a Unix socket, by the kernel's word: root and the service's own user administer, a member of
//! the socket's group has a project of its own, everybody else is nobody.

use std::io::Read;
use std::path::Path;

use crate::access::Role;
use crate::api::caller::Caller;

/// Bytes of an account database that are read.
const DATABASE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whom a socket lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The service's own user.
    pub own_uid: u32,
    /// The group whose members may submit; `None` is nobody else.
    pub group: Option<Group>,
}

/// A group by name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

impl Group {
    /// Looks it up in the host's database.
    pub fn find(name: &str) -> Option<Self> {
        let text = database("/etc/group")?;
        let gid = fields(&text).find(|it| it.first() == Some(&name))?.get(2)?.parse().ok()?;
        Some(Self { name: name.to_owned(), gid })
    }
}

impl Members {
    /// What this user may do here.
    pub fn caller(&self, uid: u32, gid: u32) -> Option<Caller> {
        let name = format!("uid:{uid}");
        if uid == 0 || uid == self.own_uid {
            return Some(Caller { name, role: Role::Admin, project: None, token: None });
        }
        let group = self.group.as_ref()?;
        let member =
            gid == group.gid || is_member(uid, group, &database("/etc/passwd")?, &database("/etc/group")?);
        let project = Some(format!("user-{uid}"));
        member.then_some(Caller { name, role: Role::Submit, project, token: None })
    }
}

/// Membership beside the primary group. The databases are read each time: who was removed is out with the next connection.
fn is_member(uid: u32, group: &Group, passwd: &str, groups: &str) -> bool {
    let (uid, gid) = (uid.to_string(), group.gid.to_string());
    let mut names =
        fields(passwd).filter(|it| it.get(2) == Some(&uid.as_str())).filter_map(|it| it.first().copied());
    let line = fields(groups)
        .find(|it| it.first() == Some(&group.name.as_str()) && it.get(2) == Some(&gid.as_str()));
    let members = line.and_then(|it| it.get(3).copied()).unwrap_or_default();
    names.any(|name| members.split(',').any(|it| it == name))
}

fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn database(path: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(Path::new(path)).ok()?;
    file.take(DATABASE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\naegis:x:990:ann,carol\nother:x:991:bob\n";

    fn check(uid: u32, expected: bool) {
        let group = Group { name: "aegis".into(), gid: 990 };
        assert_eq!(is_member(uid, &group, PASSWD, GROUPS), expected, "{uid}");
    }

    #[test]
    fn members_are_those_of_the_group() {
        check(1000, true);
        check(1001, false);
        check(4242, false);
    }

    #[test]
    fn root_and_the_service_administer_and_a_member_has_a_project() {
        let members = Members { own_uid: 990, group: Some(Group { name: "aegis".into(), gid: 990 }) };
        for uid in [0, 990] {
            assert_eq!(members.caller(uid, 1).expect("let in").role, Role::Admin);
        }
        let member = members.caller(4242, 990).expect("let in");
        assert_eq!((member.role, member.project.as_deref()), (Role::Submit, Some("user-4242")));
        assert_eq!(members.caller(4242, 4242), None);
    }

    #[test]
    fn a_persons_own_server_lets_in_nobody_else() {
        let members = Members { own_uid: 1000, group: None };
        assert_eq!(members.caller(1001, 1000), None);
    }
}
