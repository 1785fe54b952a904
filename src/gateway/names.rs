//! Names that exist for a task, and the loopback address of each. A name keeps its address as long as the run lives.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::policy::network::{Name, Network, WILDCARD_NAME_BYTES_MAX, WILDCARD_NAMES_MAX};

/// The first address of names: 127.64.0.1.
const FIRST: u32 = 0x7f40_0001;
/// Listening sockets of one run at the most.
pub const LISTENERS_MAX: usize = 2048;
/// Names that do not exist and are told one by one; further ones are counted.
const DENIED_MAX: usize = 1000;

/// The names of one run.
#[derive(Debug, Default)]
pub struct Names {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<Name, Known>,
    listeners: usize,
    wildcard_names: usize,
    wildcard_bytes: usize,
    denied: BTreeMap<String, u64>,
}

/// A name that was asked for.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its address.
    pub address: Ipv4Addr,
    /// Set once its sockets listen: an answer goes out only then.
    pub listening: Arc<OnceCell<()>>,
}

/// Why a name that rules allow does not exist all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Names {
    /// The address of a name that may be reached at this many ports.
    pub fn take(&self, name: &Name, ports: usize, network: &Network) -> Result<Known, Full> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = state.known.get(name) {
            return Ok(known.clone());
        }
        let (mut names, mut bytes) = (state.wildcard_names, state.wildcard_bytes);
        if network.is_under_wildcard(name) {
            names += 1;
            bytes += name.as_str().len();
        }
        let listeners = state.listeners + ports;
        if names > WILDCARD_NAMES_MAX || bytes > WILDCARD_NAME_BYTES_MAX || listeners > LISTENERS_MAX {
            return Err(Full);
        }
        (state.wildcard_names, state.wildcard_bytes, state.listeners) = (names, bytes, listeners);
        // At most `LISTENERS_MAX` names: far from the end of 127.64.0.0/10.
        let offset = u32::try_from(state.known.len()).unwrap_or(u32::MAX >> 10);
        let known = Known { address: Ipv4Addr::from(FIRST + offset), listening: Arc::default() };
        state.known.insert(name.clone(), known.clone());
        Ok(known)
    }

    /// Notes a name that does not exist. True the first time, while there is room to remember it.
    pub fn note_denied(&self, name: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.denied.get_mut(name) {
            *count += 1;
            return false;
        }
        if state.denied.len() == DENIED_MAX {
            return false;
        }
        state.denied.insert(name.to_owned(), 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::network::host::{HostPattern, Standing};
    use crate::policy::network::{Allow, Egress, Rule};

    fn network(hosts: &[&str]) -> Network {
        let rules: Vec<Rule> = hosts
            .iter()
            .map(|it| Rule::pass_through(HostPattern::parse(it, Standing::Policy).expect("a host"), 443))
            .collect();
        Network { egress: Egress::Rules, allow: Allow::of(&rules), ..Network::none() }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn each_name_has_an_address_of_its_own_and_keeps_it() {
        let (names, network) = (Names::default(), network(&["a.example.org", "b.example.org"]));
        let take = |text| names.take(&name(text), 1, &network).map(|it| it.address.to_string());
        assert_eq!(take("a.example.org"), Ok("127.64.0.1".to_owned()));
        assert_eq!(take("b.example.org"), Ok("127.64.0.2".to_owned()));
        assert_eq!(take("a.example.org"), Ok("127.64.0.1".to_owned()));
    }

    #[test]
    fn names_below_a_wildcard_are_few() {
        let (names, network) = (Names::default(), network(&["*.example.org", "plain.example.com"]));
        for number in 0..WILDCARD_NAMES_MAX {
            assert!(names.take(&name(&format!("n{number}.example.org")), 1, &network).is_ok());
        }
        assert!(names.take(&name("more.example.org"), 1, &network).is_err());
        assert!(names.take(&name("n0.example.org"), 1, &network).is_ok());
        assert!(names.take(&name("plain.example.com"), 1, &network).is_ok());
    }

    #[test]
    fn names_below_a_wildcard_are_short_together() {
        let (names, network) = (Names::default(), network(&["*.example.org"]));
        let long = |number| name(&format!("{}.{number:03}.example.org", "a".repeat(60)));
        let fit = WILDCARD_NAME_BYTES_MAX / long(0).as_str().len();
        assert!(fit < WILDCARD_NAMES_MAX);
        let taken = (0..WILDCARD_NAMES_MAX).filter(|it| names.take(&long(*it), 1, &network).is_ok()).count();
        assert_eq!(taken, fit);
    }

    #[test]
    fn listeners_are_bounded() {
        let (names, network) = (Names::default(), network(&["a.example.org", "b.example.org"]));
        assert!(names.take(&name("a.example.org"), LISTENERS_MAX, &network).is_ok());
        assert!(names.take(&name("b.example.org"), 1, &network).is_err());
    }

    #[test]
    fn a_denied_name_is_told_once() {
        let names = Names::default();
        assert!(names.note_denied("evil.test") && !names.note_denied("evil.test"));
    }
}
