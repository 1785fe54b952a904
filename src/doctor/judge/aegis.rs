//! The account that runs Aegis and its directories.

use crate::doctor::facts::{DirectoryFacts, Facts};
use crate::doctor::finding::{Area, Finding};
use crate::gateway::confine::ACCOUNT;
use crate::report::amount;

/// Bytes below which a record may not find room, and below which it does not.
const SPACE_BYTES_LOW: u64 = 1 << 30;
const SPACE_BYTES_MIN: u64 = 64 << 20;
/// The same in inodes.
const INODES_LOW: u64 = 10_000;
const INODES_MIN: u64 = 500;

pub fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(account(facts));
    findings.push(gateway(facts));
    findings.push(broker(facts));
    findings.push(directory("aegis.state_directory", &facts.state));
    findings.push(files(&facts.state));
    findings.push(space(&facts.state));
    findings.push(directory("aegis.runtime_directory", &facts.runtime));
}

fn account(facts: &Facts) -> Finding {
    let (area, id, uid) = (Area::Aegis, "aegis.account", facts.account.uid);
    let why = "a flaw in Aegis, or a token of this account in wrong hands, has the whole host";
    let fix = "for a service: an account of its own; for a person: a rootless engine (`dockerd-rootless-setuptool.sh`)";
    if uid == 0 {
        return Finding::weak(area, id, "Aegis runs as root", why, fix);
    }
    if facts.account.in_socket_group {
        let seen = format!("uid {uid}, which reaches the engine through its group: root by another name");
        return Finding::weak(area, id, seen, why, fix);
    }
    Finding::ok(area, id, format!("uid {uid}"))
}

fn gateway(facts: &Facts) -> Finding {
    let (area, id, uid) = (Area::Aegis, "aegis.gateway", facts.account.uid);
    if uid == 0 {
        let seen = format!("the gateway of a run is given an account of its own, uid {ACCOUNT}");
        return Finding::ok(area, id, seen);
    }
    Finding::weak(
        area,
        id,
        format!("the gateway of a run works under the account of Aegis, uid {uid}, behind its filter"),
        "it parses what tasks and hosts send: if it fell, only its filter would stand before what this account may do",
        "run Aegis as root, who gives it another account; or let only policies without egress be used here",
    )
}

fn broker(facts: &Facts) -> Finding {
    let (area, id, uid) = (Area::Aegis, "aegis.broker", facts.account.uid);
    if let Some(path) = &facts.broker {
        return Finding::ok(area, id, format!("a server reaches the engine through {}", path.display()));
    }
    Finding::weak(
        area,
        id,
        format!("the broker of a server that is started here works under its account, uid {uid}"),
        "a server that was taken over could open the engine's socket itself, beside the broker that judges what it asks for",
        "run the server as the service that packages bring: its broker has an account of its own (aegis-broker.socket)",
    )
}

fn directory(id: &'static str, directory: &DirectoryFacts) -> Finding {
    let area = Area::Aegis;
    let path = directory.path.as_ref().map_or_else(|| "no place".to_owned(), |it| it.display().to_string());
    match &directory.trouble {
        Some(trouble) => Finding::fail(
            area,
            id,
            trouble.clone(),
            "records, logs and sockets of runs lie there: no run can begin",
            "do what the message says, then ask again",
        ),
        None if directory.exists => Finding::ok(area, id, format!("{path}, for this user alone")),
        None => Finding::ok(area, id, format!("{path}, made by the first run")),
    }
}

fn files(directory: &DirectoryFacts) -> Finding {
    let (area, id) = (Area::Aegis, "aegis.state_files");
    if directory.exposed.is_empty() {
        return Finding::ok(area, id, "no file in it is open to other users");
    }
    let named: Vec<String> = directory.exposed.iter().map(|it| it.display().to_string()).collect();
    let place = directory.path.as_ref().map_or_else(String::new, |it| it.display().to_string());
    Finding::fail(
        area,
        id,
        format!("open to other users: {}", named.join(", ")),
        "what tasks print and what was asked of them is for their owner",
        format!("run `chmod -R go= {place}`"),
    )
}

fn space(directory: &DirectoryFacts) -> Finding {
    let (area, id) = (Area::Aegis, "aegis.space");
    let why = "without room for its record a run is refused";
    let fix = "free some space, let `aegis gc` remove what is past its retention, or set AEGIS_STATE_DIR to a larger disk";
    let Some(space) = directory.space else {
        return Finding::weak(area, id, "unknown: the disk of the state directory cannot be read", why, fix);
    };
    let inodes = space.inodes.map_or_else(String::new, |it| format!(", {it} inodes"));
    let seen = format!("{}{inodes} free", amount::bytes(space.bytes));
    let below = |bytes, inodes| space.bytes < bytes || space.inodes.is_some_and(|it| it < inodes);
    if below(SPACE_BYTES_MIN, INODES_MIN) {
        return Finding::fail(area, id, seen, why, fix);
    }
    if below(SPACE_BYTES_LOW, INODES_LOW) {
        return Finding::weak(area, id, seen, why, fix);
    }
    Finding::ok(area, id, seen)
}
