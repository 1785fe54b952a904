//! Who may reach the engine: whoever does is root on its host.

use crate::doctor::facts::{Facts, SocketFacts};
use crate::doctor::finding::{Area, Finding};

const ROOT: &str =
    "whoever may write to this socket can start a container with the host's root directory, and is root";
/// Members of a group that are named.
const NAMED_MAX: usize = 10;

pub fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(match &facts.socket {
        Some(socket) => of_socket(socket),
        None => Finding::weak(
            Area::Access,
            "access.socket",
            "unknown: there is no socket to look at",
            ROOT,
            "start the engine, then ask again",
        ),
    });
    if let Some(socket) = &facts.socket {
        findings.push(group(socket));
    }
    findings.push(network(facts));
}

fn of_socket(socket: &SocketFacts) -> Finding {
    let (area, id) = (Area::Access, "access.socket");
    let seen = format!(
        "{} belongs to uid {}, group {}, mode {:03o}",
        socket.path.display(),
        socket.owner,
        socket.group,
        socket.mode
    );
    if socket.mode & 0o002 != 0 {
        let fix = format!("run `chmod o= {}`, and find out who opened it", socket.path.display());
        return Finding::fail(area, id, format!("{seen}: open to every user"), ROOT, fix);
    }
    Finding::ok(area, id, seen)
}

fn group(socket: &SocketFacts) -> Finding {
    let (area, id) = (Area::Access, "access.group");
    if socket.mode & 0o020 == 0 {
        return Finding::ok(area, id, "the socket is for its owner alone");
    }
    let name = &socket.group;
    match &socket.members {
        Some(members) if members.is_empty() => {
            Finding::ok(area, id, format!("the group `{name}` has no members"))
        }
        Some(members) => {
            let shown: Vec<&str> = members.iter().take(NAMED_MAX).map(String::as_str).collect();
            Finding::weak(
                area,
                id,
                format!("{} in the group `{name}`: {}", members.len(), shown.join(", ")),
                ROOT,
                format!(
                    "take out who need not be root: `gpasswd -d USER {name}`; or use a rootless engine for each user"
                ),
            )
        }
        None => Finding::weak(
            area,
            id,
            format!("unknown: the members of `{name}` cannot be read"),
            ROOT,
            format!("look by hand: `getent group {name}`"),
        ),
    }
}

fn network(facts: &Facts) -> Finding {
    let (area, id) = (Area::Access, "access.network");
    // The engine warns of each address on which it does not ask for a client's certificate.
    let warned: Vec<&str> = match &facts.engine {
        Ok(engine) => {
            let lines = engine.warnings.iter().map(String::as_str);
            lines.filter(|it| it.contains("API is accessible on")).collect()
        }
        Err(_) => Vec::new(),
    };
    if warned.is_empty() && facts.open_listeners.is_empty() {
        return Finding::ok(area, id, "no engine here listens on the network without TLS");
    }
    let mut seen: Vec<String> =
        facts.open_listeners.iter().map(|it| format!("an engine listens on {it}")).collect();
    seen.extend(warned.iter().map(|it| it.lines().next().unwrap_or_default().trim().to_owned()));
    Finding::fail(
        area,
        id,
        seen.join("; "),
        "whoever reaches this address, from a web page or a container as well, is root on this host",
        "remove the `tcp://` address from the engine's command line or daemon.json, or ask for client certificates \
         with `--tlsverify`",
    )
}
