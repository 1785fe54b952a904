//! The way out: bytes per second of a stream that passes the gateway, and the time of one exchange over a kept connection,
//! each against a connection of the same client that stays inside the sandbox. Needs root: the host that is reached is a
//! network namespace.

#[allow(clippy::unwrap_used, reason = "it is a test's own")]
#[path = "../tests/it/support/netns/dns.rs"]
#[allow(dead_code, reason = "a bench needs less of it")]
mod dns;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::thread::LinkNameSpaceType;

use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::Pairs;
use crate::support::table::{Bar, Comparisons, Verdict, quantity};

/// Pairs that are measured.
const ROUNDS: u32 = 3;
/// Bytes of a stream.
const BYTES: usize = 2 << 30;
/// Exchanges of which the middle one is told.
const EXCHANGES: usize = 2000;
/// An address that the gateway takes for a public one.
const ADDRESS: &str = "203.0.113.10:9000";

/// The server: `s` for a stream, `e` for exchanges of one byte.
const SERVE: &str = "
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if c.recv(1) == b's':
        left, chunk = BYTES, bytes(1 << 20)
        while left > 0: c.sendall(chunk); left -= len(chunk)
    else:
        while c.recv(1): c.sendall(b'x')
    c.close()
";

/// The client, and the same server inside, in a process of its own.
const CLIENT: &str = "
def stream(host):
    c = socket.create_connection((host, 9000)); c.sendall(b's')
    buffer = bytearray(1 << 20); first = c.recv_into(buffer); begun = time.perf_counter(); count = 0
    while True:
        some = c.recv_into(buffer)
        if not some: break
        count += some
    return count / (time.perf_counter() - begun) / 1e6
def exchange(host):
    c = socket.create_connection((host, 9000)); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); c.sendall(b'e')
    times = []
    for i in range(EXCHANGES):
        begun = time.perf_counter(); c.sendall(b'x'); c.recv(1); times.append(time.perf_counter() - begun)
    return sorted(times)[EXCHANGES // 2] * 1e6
listener = socket.create_server(('127.0.0.1', 9000))
if os.fork() == 0:
    while True: serve(listener.accept()[0])
for measure in (stream, exchange):
    for i in range(ROUNDS): print(measure.__name__, measure('bench.test'), measure('127.0.0.1'), flush=True)
";

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    if !rustix::process::geteuid().is_root() {
        println!("\nthe way out is not measured: a network namespace needs root");
        return Ok(Verdict::Held);
    }
    let name = format!("aegis-bench-{}", std::process::id());
    let namespace = Namespace::make(&name)?;
    let (dns, listener) = namespace
        .enter(|| Ok((dns::Dns::serve(), TcpListener::bind(ADDRESS).context("the bench's host")?)))?;
    dns.set("bench.test", &["203.0.113.10"]);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    load::tell("before");
    let output = run(instance, &name)?;
    load::tell("after");

    let (mut streams, mut exchanges, mut added) = (Pairs::default(), Pairs::default(), Pairs::default());
    for line in output.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut value = || words.next().and_then(|it| it.parse::<f64>().ok()).context("a measurement");
        let (ours, theirs) = (value()?, value()?);
        match kind {
            "stream" => streams.add(ours, theirs),
            _ => {
                exchanges.add(ours, theirs);
                added.add(ours - theirs, 500.0);
            }
        }
    }
    println!("\na stream of 2 GiB to the task through the gateway, {ROUNDS} pairs, medians");
    quantity("through the gateway", &streams.ours, "MB/s");
    let mut compared = Comparisons::heading("MB/s");
    compared.compare("against loopback of the sandbox", &streams, Bar::Above(0.2));
    println!("\none exchange over a kept connection, the middle of {EXCHANGES}");
    quantity("through the gateway", &exchanges.ours, "us");
    let mut latency = Comparisons::heading("us");
    latency.compare("added, against half a millisecond", &added, Bar::Below(1.0));
    Ok(compared.verdict().and(latency.verdict()))
}

/// Runs the client and gives what it printed.
fn run(instance: &Instance, namespace: &str) -> anyhow::Result<String> {
    let file = |name: &str, text: &str| {
        let path = instance.directory().join(name);
        std::fs::write(&path, text).map(|()| path).context("a file of the bench")
    };
    let config = file("config.toml", "[gateway]\nresolvers = [\"127.0.0.1:53\"]\n")?;
    let rule = "[[network.allow]]\nhost = \"bench.test\"\nports = [9000]\nopaque = true\n";
    file("policy.toml", &format!("extends = \"strict\"\n[network]\negress = \"rules\"\n{rule}"))?;
    let script = format!("import os, socket, time\n{SERVE}{CLIENT}")
        .replace("BYTES", &BYTES.to_string())
        .replace("EXCHANGES", &EXCHANGES.to_string())
        .replace("ROUNDS", &ROUNDS.to_string());
    let flags =
        ["run", "--no-workspace", "--sandbox", "./policy.toml", "--quiet", "--", "python3", "-c", &script];
    let aegis = instance.aegis(&flags);
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(aegis.get_program()).args(aegis.get_args());
    command.current_dir(instance.directory()).env("AEGIS_CONFIG", config);
    command.env("AEGIS_STATE_DIR", instance.directory().join("state"));
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("`nsenter` starts")?;
    if !output.status.success() {
        bail!("`aegis run` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn serve(mut stream: TcpStream) {
    let mut byte = [0];
    if stream.set_nodelay(true).is_err() || stream.read_exact(&mut byte).is_err() {
        return;
    }
    if byte == *b"s" {
        let chunk = vec![0; 1 << 20];
        let mut left = BYTES;
        while left > 0 && stream.write_all(&chunk).is_ok() {
            left -= chunk.len();
        }
        return;
    }
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(b"x").is_ok() {}
}

/// A network namespace with the bench's host. Dropped, it is gone.
struct Namespace {
    name: String,
}

impl Namespace {
    fn make(name: &str) -> anyhow::Result<Self> {
        ip(&["netns", "add", name])?;
        let made = Self { name: name.to_owned() };
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "addr", "add", "203.0.113.10/32", "dev", "lo"])?;
        Ok(made)
    }

    /// Runs this on a thread of its own with the namespace's network.
    fn enter<T: Send>(&self, action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let namespace = File::open(format!("/run/netns/{}", self.name))?;
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
                action()
            });
            entered.join().map_err(|_| anyhow::anyhow!("the thread of the namespace failed"))?
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("`ip` starts")?;
    if status.success() { Ok(()) } else { bail!("`ip {}` ended with {status}", arguments.join(" ")) }
}
