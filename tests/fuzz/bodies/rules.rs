//! Rules made of any bytes, over a small world: what is decided is what each rule by itself says, text by text, and two
//! policies together allow what both do.

use aegis::policy::Egress;
use aegis::policy::network::host::{HostPattern, Standing};
use aegis::policy::network::method::Method;
use aegis::policy::network::path::PathPattern;
use aegis::policy::network::port::PortPattern;
use aegis::policy::network::{Allow, Name, Network, Request, Rule, Transport};

/// Inputs to begin with.
pub const SEEDS: [&[u8]; 3] =
    [b"\0\0\0\0\0\0", b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a", b"\xff\x10\x33\x08\x81\x7f"];
const HOSTS: [&str; 5] =
    ["a.example.org", "b.a.example.org", "*.example.org", "*.a.example.org", "other.test"];
const NAMES: [&str; 6] =
    ["a.example.org", "b.a.example.org", "new.example.org", "new.a.example.org", "example.org", "other.test"];
const PATTERNS: [&str; 6] = ["/", "/a", "/a/b", "/*/b", "/a/*", "/*"];
const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/x/b", "/a/x", "/x"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const RULES_MAX: usize = 4;

/// Holds it for these bytes: five make a rule.
pub fn run(bytes: &[u8]) {
    let (ours, theirs) = bytes.split_at(bytes.len() / 2);
    let (ours, theirs) = (rules(ours), rules(theirs));
    let (left, right) = (under(&ours), under(&theirs));
    let both = left.meet(&right);
    assert_eq!(both, right.meet(&left));
    assert!(both.le(&left) && both.le(&right));
    assert_eq!(left.le(&right), both == left);
    for name in NAMES {
        let host = Name::parse(name).expect("a name");
        for port in [443, 8443] {
            for method in METHODS {
                for path in PATHS {
                    let passes = |it: &Network| {
                        matches!(it.request(&host, port, method, path), Request::Allowed { .. })
                    };
                    let expected =
                        |rules: &[Rule]| rules.iter().any(|it| allows(it, name, port, method, path));
                    assert_eq!(passes(&left), expected(&ours), "{method} {name}:{port}{path} {ours:?}");
                    assert_eq!(
                        passes(&both),
                        expected(&ours) && expected(&theirs),
                        "{method} {name}:{port}{path}"
                    );
                }
            }
        }
    }
}

fn rules(bytes: &[u8]) -> Vec<Rule> {
    bytes.chunks_exact(5).take(RULES_MAX).map(rule).collect()
}

fn rule(bytes: &[u8]) -> Rule {
    let transport =
        [Transport::Inspected, Transport::PassThrough, Transport::Opaque][usize::from(bytes[1] % 3)];
    let is_read = transport == Transport::Inspected;
    let picked = |bits: u8, count: usize| (0..count).filter(move |it| is_read && bits & (1 << it) != 0);
    let host = HOSTS[usize::from(bytes[0]) % HOSTS.len()];
    let mut ports = vec![PortPattern::One(443)];
    if bytes[1] & 0x80 != 0 {
        ports.push(PortPattern::One(8443));
    }
    Rule {
        host: HostPattern::parse(host, Standing::Ceiling).expect("a host"),
        ports,
        transport,
        methods: picked(bytes[2], 2).map(|it| [Method::Get, Method::Post][it]).collect(),
        paths: picked(bytes[3], 6).map(|it| PathPattern::parse(PATTERNS[it]).expect("a pattern")).collect(),
        upgrade: is_read && bytes[4] & 1 != 0,
        private: bytes[4] & 2 != 0,
        credential: None,
    }
}

fn under(rules: &[Rule]) -> Network {
    Network { egress: Egress::Rules, allow: Allow::of(rules), ..Network::none() }
}

fn allows(rule: &Rule, name: &str, port: u16, method: &str, path: &str) -> bool {
    let host = rule.host.to_string();
    let by_host = host.strip_prefix('*').map_or(host == name, |end| name.ends_with(end));
    let by_port = rule.ports.contains(&PortPattern::One(port));
    let by_method = rule.methods.is_empty() || rule.methods.iter().any(|it| it.word() == method);
    let by_path = rule.paths.is_empty() || rule.paths.iter().any(|it| covers(&it.to_string(), path));
    by_host && by_port && by_method && by_path
}

fn covers(pattern: &str, path: &str) -> bool {
    let segments =
        |text: &str| text.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (segments(pattern), segments(path));
    pattern.len() <= path.len() && pattern.iter().zip(&path).all(|(one, other)| one == "*" || one == other)
}
