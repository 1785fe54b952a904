//! Which addresses a name may lead to. Everything is judged by the address itself, never by how it was written: names
//! resolve to numbers, and a number has one form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// A host of the internet.
    Public,
    /// This host or its neighbours: only where the rule says `private`.
    Private(&'static str),
    /// Nothing that a task connects to, whatever the rule says: it is no host, it hands out the host's own credentials,
    /// or it wraps another address that would have to be judged in its place.
    Never(&'static str),
}

/// Judges an address.
pub fn judge(address: IpAddr) -> Reachability {
    match address {
        IpAddr::V4(it) => judge_v4(it),
        IpAddr::V6(it) => judge_v6(it),
    }
}

fn judge_v4(address: Ipv4Addr) -> Reachability {
    use Reachability::{Never, Private, Public};

    match address.octets() {
        [0, ..] => Never("unspecified"),
        [127, ..] => Private("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Private("private"),
        // Metadata services of clouds, where they are no link-local address.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Never("metadata"),
        [100, 64..=127, ..] => Private("shared by carriers"),
        [169, 254, ..] => Never("link-local"),
        [192, 0, 0, _] => Never("a protocol's own"),
        [192, 88, 99, _] => Never("a relay of 6to4"),
        [198, 18..=19, ..] => Private("for benchmarks"),
        [224..=239, ..] => Never("multicast"),
        [255, 255, 255, 255] => Never("broadcast"),
        [240..=255, ..] => Never("reserved"),
        _ => Public,
    }
}

fn judge_v6(address: Ipv6Addr) -> Reachability {
    use Reachability::{Never, Private, Public};

    if address == Ipv6Addr::UNSPECIFIED {
        return Never("unspecified");
    }
    if address == Ipv6Addr::LOCALHOST {
        return Private("loopback");
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => Never("an IPv4 address in IPv6"),
        [0, 0, 0, 0, 0, 0, ..] => Never("an IPv4 address in IPv6"),
        [0x64, 0xff9b, ..] => Never("a translated IPv4 address (NAT64)"),
        // The metadata service of a cloud.
        [0xfd00, 0x0ec2, ..] => Never("metadata"),
        [0xfc00..=0xfdff, ..] => Private("unique local"),
        [0xfe80..=0xfebf, ..] => Never("link-local"),
        [0xfec0..=0xfeff, ..] => Never("site-local"),
        [0xff00..=0xffff, ..] => Never("multicast"),
        // Teredo and other tunnels; the second group is 0x0000 to 0x01ff.
        [0x2001, 0..=0x1ff, ..] => Never("a tunnel or a protocol's own"),
        [0x2002, ..] => Never("a tunnel of 6to4"),
        [0x2000..=0x3fff, ..] => Public,
        _ => Never("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &str, expected: fn(Reachability) -> bool) {
        for address in addresses.split_whitespace() {
            let judged = judge(address.parse().expect("an address"));
            assert!(expected(judged), "{address}: {judged:?}");
        }
    }

    #[test]
    fn hosts_of_the_internet_are_public() {
        let hosts = "1.1.1.1 203.0.113.10 192.0.2.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 2001:db8::10 2606:4700::1111 2a00::1";
        check(hosts, |it| it == Reachability::Public);
    }

    #[test]
    fn this_host_and_its_neighbours_need_the_rules_word() {
        let near =
            "127.0.0.1 127.64.0.1 10.0.0.1 172.17.0.1 192.168.1.1 100.64.0.1 198.18.0.1 ::1 fc00::1 fdff::1";
        check(near, |it| matches!(it, Reachability::Private(_)));
    }

    #[test]
    fn what_is_no_host_is_never_reached() {
        let never = "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 100.100.100.200 168.63.129.16 192.0.0.192 224.0.0.1 \
            239.255.255.250 240.0.0.1 255.255.255.255 :: fe80::1 fec0::1 ff02::1 fd00:ec2::254 4000::1 100::1";
        check(never, |it| matches!(it, Reachability::Never(_)));
    }

    #[test]
    fn an_address_that_wraps_another_is_never_reached() {
        let wrapped = "::ffff:10.0.0.1 ::ffff:1.1.1.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1::1 2001::1 2001:10::1";
        check(wrapped, |it| matches!(it, Reachability::Never(_)));
    }
}
