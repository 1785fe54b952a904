//! Tasks of a namespace under rules: what they run, and what stands in their ledger.

use serde_json::Value;

use crate::support::aegis::{Aegis, Ended};
use crate::support::netns::Net;
use crate::watched::Watched;

/// An instance in a namespace, under one policy.
pub struct Tasks {
    /// The instance.
    pub aegis: Aegis,
    authority: String,
}

impl Tasks {
    /// Under these rules, each as `HOST:PORT` and the words `opaque` and `private` where they apply.
    pub fn under(net: &Net, rules: &[&str]) -> Self {
        Self::with_policy(net, net.aegis(), &rules.iter().map(|it| rule(it)).collect::<String>())
    }

    /// Under rules as a policy writes them.
    pub fn with_policy(net: &Net, aegis: Aegis, rules: &str) -> Self {
        let policy = format!("extends = \"strict\"\n[network]\negress = \"rules\"\n{rules}");
        std::fs::write(aegis.here().join("policy.toml"), policy).unwrap();
        Self { aegis, authority: net.authority_pem().to_owned() }
    }

    /// Runs a script; the namespace's authority lies in `/tmp/ca.pem`, and the usual variables name it.
    pub fn script(&self, script: &str) -> Ended {
        self.aegis.script(&["--sandbox", "./policy.toml"], &self.prepared(script))
    }

    /// The same with further flags.
    pub fn script_with(&self, flags: &[&str], script: &str) -> Ended {
        let mut all = vec!["--sandbox", "./policy.toml"];
        all.extend(flags);
        self.aegis.script(&all, &self.prepared(script))
    }

    /// Starts a script that is looked at while it runs.
    pub fn watched(&self, script: &str) -> Watched<'_> {
        Watched::script(&self.aegis, &["--sandbox", "./policy.toml"], &self.prepared(script))
    }

    /// The ledger of the newest run.
    pub fn ledger(&self) -> Vec<Value> {
        let listed = self.aegis.call(&["ps", "-a", "--json"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        let id = listed.pointer("/0/short_id").and_then(Value::as_str).unwrap().to_owned();
        let ledger = self.aegis.call(&["egress", &id, "--json"]);
        ledger.code(0);
        ledger.stdout.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// The ledger as `NAME:PORT VERDICT`, sorted, each line once.
    pub fn verdicts(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.ledger().iter().map(line).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    fn prepared(&self, script: &str) -> String {
        let authority = &self.authority;
        format!(
            "cat >/tmp/ca.pem <<'PEM'\n{authority}PEM\nexport SSL_CERT_FILE=/tmp/ca.pem CURL_CA_BUNDLE=/tmp/ca.pem \
             GIT_SSL_CAINFO=/tmp/ca.pem\n{script}"
        )
    }
}

fn line(entry: &Value) -> String {
    let (name, verdict) = (entry["name"].as_str().unwrap(), entry["verdict"].as_str().unwrap());
    match entry["port"].as_u64() {
        Some(port) => format!("{name}:{port} {verdict}"),
        None => format!("{name} {verdict}"),
    }
}

fn rule(text: &str) -> String {
    let mut words = text.split(' ');
    let (host, port) = words.next().unwrap().split_once(':').unwrap();
    let mut rule = format!("[[network.allow]]\nhost = \"{host}\"\nports = [{port}]\n");
    for word in words {
        rule.push_str(&format!("{word} = true\n"));
    }
    rule
}
