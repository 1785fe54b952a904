//! What packages lay down for the service: read as systemd reads it, and held to what a hardened service is.

use std::collections::BTreeMap;

/// A unit file as systemd reads it: section, key, values in order.
type Unit = BTreeMap<(String, String), Vec<String>>;

fn packaged(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    std::fs::read_to_string(path).expect("it is there")
}

/// Reads a unit; a line that is none of systemd's fails.
#[track_caller]
fn unit(text: &str) -> Unit {
    let mut unit = Unit::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no setting"));
        assert!(["Unit", "Service", "Install"].contains(&section.as_str()), "`{line}` is in `{section}`");
        unit.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
    }
    unit
}

#[track_caller]
fn check(unit: &Unit, key: &str, expected: &[&str]) {
    let values = unit.get(&("Service".to_owned(), key.to_owned()));
    assert_eq!(values.map(Vec::as_slice).unwrap_or_default(), expected, "{key}");
}

#[test]
fn the_service_has_no_privilege_and_little_of_the_host() {
    let unit = unit(&packaged("aegis.service"));
    for key in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "MemoryDenyWriteExecute",
    ] {
        check(&unit, key, &["yes"]);
    }
    check(&unit, "ProtectSystem", &["strict"]);
    check(&unit, "CapabilityBoundingSet", &[""]);
    check(&unit, "AmbientCapabilities", &[""]);
    check(&unit, "User", &["aegis"]);
    check(&unit, "UMask", &["0077"]);
    check(&unit, "StateDirectoryMode", &["0700"]);
    let filter = &unit[&("Service".to_owned(), "SystemCallFilter".to_owned())];
    assert_eq!(filter[0], "@system-service");
    assert!(filter[1].starts_with('~') && filter[1].contains("@privileged"), "{filter:?}");
    for bounded in ["MemoryMax", "TasksMax", "LimitNOFILE"] {
        assert!(unit.contains_key(&("Service".to_owned(), bounded.to_owned())), "{bounded}");
    }
}

#[test]
fn the_service_is_given_longer_to_stop_than_it_drains() {
    let unit = unit(&packaged("aegis.service"));
    check(&unit, "KillMode", &["mixed"]);
    // Five minutes by default, and the time in which what is left is ended.
    check(&unit, "TimeoutStopSec", &["7min"]);
    check(&unit, "Restart", &["on-failure"]);
    check(&unit, "ExecStart", &["/usr/bin/aegis serve --broker unix:/run/aegis/broker.sock"]);
}

#[test]
fn only_the_broker_reaches_the_engine_and_it_has_nothing_else() {
    let (server, broker) = (unit(&packaged("aegis.service")), unit(&packaged("aegis-broker@.service")));
    check(&server, "SupplementaryGroups", &[]);
    check(&broker, "SupplementaryGroups", &["docker"]);
    check(&broker, "User", &["aegis-broker"]);
    check(&broker, "ExecStart", &["/usr/bin/aegis broker --runtime-root /run/aegis"]);
    check(&broker, "StandardInput", &["socket"]);
    for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        check(&broker, key, &["CAP_DAC_READ_SEARCH"]);
    }
    for key in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateNetwork"] {
        check(&broker, key, &["yes"]);
    }
    check(&broker, "ProtectSystem", &["strict"]);
    let nofile = |unit: &Unit| unit.get(&("Service".to_owned(), "LimitNOFILE".to_owned())).cloned();
    assert_eq!(nofile(&server), nofile(&broker));
    let socket = packaged("aegis-broker.socket");
    for line in ["ListenStream=/run/aegis/broker.sock", "SocketUser=aegis", "SocketMode=0600", "Accept=yes"] {
        assert!(socket.lines().any(|it| it == line), "{line}");
    }
}

#[test]
fn the_account_has_no_shell_and_its_directories_are_its_own() {
    let lines = |name| {
        let text: String = packaged(name);
        let kept: Vec<String> =
            text.lines().filter(|it| !it.starts_with('#') && !it.is_empty()).map(str::to_owned).collect();
        kept
    };
    let accounts = lines("aegis.sysusers");
    let expected = [
        "u aegis - \"Aegis\" /var/lib/aegis /usr/sbin/nologin",
        "u aegis-broker - \"Aegis broker\" / /usr/sbin/nologin",
        "m aegis-broker docker",
    ];
    assert_eq!(accounts, expected);
    for line in lines("aegis.tmpfiles") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((fields.len(), fields[0]), (6, "d"), "{line}");
        let is_private = ["0700", "0750"].contains(&fields[2]) && fields[3..5] == ["aegis", "aegis"];
        assert!(is_private || fields[1] == "/etc/aegis", "{line}");
    }
}
