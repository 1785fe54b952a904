//! What a run's gateway is told: the rules that were admitted, and what the operator configured. Everything is read here;
//! the gateway opens nothing.

mod credentials;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_bytes::ByteBuf;

use crate::app::{AppError, read_bounded};
use crate::config::operator::Operator;
use crate::gateway::authority::Authority;
use crate::gateway::roots::Roots;
use crate::gateway::wire::{Begin, Inspect, Rules};
use crate::policy::Policy;
use crate::policy::network::host::HostPattern;
use crate::policy::network::port::{HTTP, PortPattern};
use crate::policy::network::{Network, Transport};
use crate::redact::Known;
use crate::sandbox::trust::{self, Authorities};

/// Where the host's own resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Bytes of that file.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;
/// Resolvers of the host that are asked.
const RESOLVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// What an authority lives longer than its run's wall time.
const LIFE_SLACK: Duration = Duration::from_secs(60 * 60);

/// A run's way out, as far as it is known before its sandbox.
#[derive(Debug)]
pub struct WayOut {
    /// What its gateway is told.
    pub begin: Begin,
    /// The authorities that its sandbox trusts, where the gateway ends TLS.
    pub authorities: Option<Authorities>,
    /// Variables of the task's command.
    pub variables: Vec<(String, String)>,
    /// The values that the gateway adds, as far as they can be told from other text: nothing that comes out has one.
    pub credentials: Vec<Known>,
}

/// The way out of a run under this policy; `None` where it has none. No request that the gateway reads carries what is
/// `known`.
pub fn way_out(policy: &Policy, state: &Path, known: &[Known]) -> Result<Option<WayOut>, AppError> {
    let network = &policy.network;
    if !network.has_egress() {
        return Ok(None);
    }
    let operator = Operator::of_this_user()?;
    let resolvers = match operator.resolvers.is_empty() {
        false => operator.resolvers.clone(),
        true => host_resolvers()?,
    };
    let credentials = credentials::gather(network, &operator, state)?;
    let mut variables = credentials.placeholders.clone();
    let (mut roots, mut authority, mut authorities) = (Roots::default(), None, None);
    if network.inspects_tls() {
        let life = Duration::from_millis(policy.resources.wall_time_ms) + LIFE_SLACK;
        let made = Authority::make(&inspected_names(network), SystemTime::now(), life)?;
        roots = Roots::load(&operator.roots)?;
        let (pem, key_store) = (roots.bundle(made.certificate()), roots.key_store(made.certificate()));
        authorities = Some(Authorities { pem, key_store });
        authority = Some(made.handover());
        variables.extend(trust::variables());
    }
    let begin = Begin {
        rules: Rules::of(network),
        resolvers,
        inspect: Inspect::of(authority.as_ref(), &credentials.added, known),
        roots: roots.certificates().map(|it| ByteBuf::from(it.to_vec())).collect(),
        proxy: operator.proxy,
    };
    let credentials = credentials.known();
    Ok(Some(WayOut { begin, authorities, variables, credentials }))
}

/// What the run's authority may vouch for: names whose TLS is ended, and the names below a wildcard's.
fn inspected_names(network: &Network) -> Vec<String> {
    let inspected = network.allow.reach.iter().filter(|it| it.access.transport() == Transport::Inspected);
    let mut names = BTreeSet::new();
    for reach in inspected.filter(|it| it.port != PortPattern::One(HTTP)) {
        match &reach.host {
            HostPattern::Exact(name) | HostPattern::Below(name) => names.insert(name.to_string()),
            // Only a ceiling says so, and a ceiling alone runs nothing.
            HostPattern::Any => false,
        };
    }
    names.into_iter().collect()
}

fn host_resolvers() -> Result<Vec<SocketAddr>, AppError> {
    let resolvers = nameservers(&read_bounded(Path::new(RESOLV_CONF), RESOLV_CONF_BYTES_MAX)?);
    if resolvers.is_empty() {
        return Err(AppError::Read {
            what: "the host's resolvers in",
            path: PathBuf::from(RESOLV_CONF),
            source: std::io::Error::other(
                "it names none, and a policy with egress needs one: write `resolvers` in the operator's configuration",
            ),
        });
    }
    Ok(resolvers)
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|it| it.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|it| it.trim().parse::<IpAddr>().ok());
    addresses.map(|it| SocketAddr::new(it, DNS_PORT)).take(RESOLVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_resolvers_are_its_first_three() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\n nameserver 192.0.2.3\n\
            nameserver 192.0.2.4\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        assert_eq!(
            nameservers("nameserver dns.example.org\nnameservers 192.0.2.1\nnameserver fe80::1%eth0\n"),
            []
        );
    }
}
