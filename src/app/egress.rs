//! What a run's gateway is told: the rules that were admitted, and what the operator configured. Everything is read here;
//! the gateway opens nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::app::{AppError, read_bounded};
use crate::config::operator::Operator;
use crate::gateway::wire::{Begin, Rules};
use crate::policy::Policy;

/// Where the host's own resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Bytes of that file.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;
/// Resolvers of the host that are asked.
const RESOLVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// What the gateway of a run under this policy is told; `None` where it has no way out.
pub fn begin(policy: &Policy) -> Result<Option<Begin>, AppError> {
    let network = &policy.network;
    if !network.has_egress() {
        return Ok(None);
    }
    let operator = Operator::of_this_user()?;
    let resolvers = match operator.resolvers.is_empty() {
        false => operator.resolvers,
        true => host_resolvers()?,
    };
    Ok(Some(Begin { rules: Rules::of(network), resolvers, roots: Vec::new(), proxy: operator.proxy }))
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
