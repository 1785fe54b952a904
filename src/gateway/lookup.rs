//! Where a name leads to: asked at the moment of a connection, judged, and connected to exactly there. Nothing that a task
//! asks for is passed on; what goes to the host's resolvers are names that rules allow.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::gateway::address::{Reachability, judge};
use crate::policy::network::Name;

/// Time for one query.
const QUERY_TIME_MAX: Duration = Duration::from_secs(3);
/// Time for a name, over all resolvers and tries.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(8);
/// Tries of one query.
const ATTEMPTS: usize = 2;
/// Addresses of a name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// Asks the host's resolvers.
pub struct Lookup {
    resolver: TokioResolver,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No address.
    #[error("the name does not resolve")]
    Unresolved,
    /// None that the rule lets be reached; the first of them.
    #[error("the name leads to {address}, which is {kind}")]
    Refused {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
}

impl Lookup {
    /// With these resolvers, in order.
    pub fn new(resolvers: &[SocketAddr]) -> Result<Self, NetError> {
        let servers = resolvers.iter().map(|it| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = it.port();
            }
            NameServerConfig::new(it.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut options = ResolverOpts::default();
        options.timeout = QUERY_TIME_MAX;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { resolver: builder.build()? })
    }

    /// The addresses of a name that may be connected to, IPv4 first.
    pub async fn addresses(&self, name: &Name, private: bool) -> Result<Vec<IpAddr>, LookupError> {
        // The dot says that it is whole, so that nothing is appended.
        let asked = self.resolver.lookup_ip(format!("{name}."));
        let Ok(Ok(found)) = tokio::time::timeout(LOOKUP_TIME_MAX, asked).await else {
            return Err(LookupError::Unresolved);
        };
        select(found.iter().take(ADDRESSES_MAX), private)
    }
}

impl Lookup {
    /// An address of a host that the operator named, wherever it lies.
    pub async fn anywhere(&self, host: &str) -> Option<IpAddr> {
        let asked = self.resolver.lookup_ip(format!("{}.", host.trim_end_matches('.')));
        tokio::time::timeout(LOOKUP_TIME_MAX, asked).await.ok()?.ok()?.iter().next()
    }
}

/// Those of the addresses that may be reached.
fn select(found: impl Iterator<Item = IpAddr>, private: bool) -> Result<Vec<IpAddr>, LookupError> {
    let mut refused = LookupError::Unresolved;
    let mut allowed = Vec::new();
    for address in found {
        let kind = match judge(address) {
            Reachability::Public => None,
            Reachability::Private(_) if private => None,
            Reachability::Private(kind) | Reachability::Never(kind) => Some(kind),
        };
        match kind {
            None => allowed.push(address),
            Some(kind) if refused == LookupError::Unresolved => {
                refused = LookupError::Refused { address, kind };
            }
            Some(_) => {}
        }
    }
    if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &str, private: bool, expected: Result<&str, &str>) {
        let found = addresses.split_whitespace().map(|it| it.parse().expect("an address"));
        let selected = select(found, private);
        let told = selected.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(told.map_err(|it| it.to_string()), expected, "{addresses}");
    }

    #[test]
    fn what_may_not_be_reached_is_left_out() {
        check("10.0.0.1 203.0.113.10 ::1", false, Ok("203.0.113.10"));
        check("10.0.0.1 169.254.169.254", true, Ok("10.0.0.1"));
    }

    #[test]
    fn a_name_that_leads_nowhere_else_is_refused_with_its_address() {
        check("10.0.0.1 ::1", false, Err("the name leads to 10.0.0.1, which is private"));
        check("169.254.169.254", true, Err("the name leads to 169.254.169.254, which is link-local"));
        check("", false, Err("the name does not resolve"));
    }
}
