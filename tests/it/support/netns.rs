//! "Other hosts" for the tests: a network namespace of the test's own, with addresses on its loopback, a resolver, servers
//! and an authority. `aegis` runs in it; the engine's socket is a path and is reached from there.

pub mod capture;
pub mod dns;
pub mod server;
pub mod site;
pub mod task;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::aegis::Aegis;
use crate::support::netns::dns::Dns;

/// Addresses of "other hosts": documentation ranges, which the gateway takes for public ones.
pub const HOSTS: [&str; 4] = ["203.0.113.10", "203.0.113.20", "203.0.113.30", "2001:db8::10"];

/// The namespace. Dropped, it is gone with everything in it.
pub struct Net {
    name: String,
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority_pem: String,
    /// The resolver that the gateway asks.
    pub dns: Dns,
}

impl Net {
    /// A namespace with the addresses of [`HOSTS`] and a resolver that knows nothing yet.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("aegis-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        let (issuer, authority_pem) = authority();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("authority.pem"), &authority_pem).unwrap();
        let dns = within(&name, Dns::serve);
        let net = Self { name, directory, issuer, authority_pem, dns };
        for address in HOSTS {
            net.add_address(address);
        }
        net.configure("");
        net
    }

    /// One more address of the namespace.
    pub fn add_address(&self, address: &str) {
        let length = if address.contains(':') { "128" } else { "32" };
        // Without `nodad` an IPv6 address could not be used at once.
        let mut arguments = vec!["-n", &self.name, "addr", "add"];
        let whole = format!("{address}/{length}");
        arguments.extend([whole.as_str(), "dev", "lo"]);
        if address.contains(':') {
            arguments.push("nodad");
        }
        ip(&arguments);
    }

    /// Writes the operator's configuration: this namespace's resolver and authority, and what else is given.
    pub fn configure(&self, more: &str) {
        let authority = self.directory.path().join("authority.pem");
        let text = format!(
            "[gateway]\nresolvers = [\"127.0.0.1:53\"]\nroots = [\"{}\"]\n{more}\n",
            authority.display()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// An instance whose commands run in this namespace, under that configuration.
    pub fn aegis(&self) -> Aegis {
        Aegis::new().with("AEGIS_CONFIG", self.config().to_str().unwrap()).within(&self.name)
    }

    /// The authority's certificate, for clients that are to trust it.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// TLS for a server of these names, certified by the authority; it speaks these protocols (ALPN).
    pub fn tls(&self, names: &[&str], protocols: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Runs this with the namespace's network: sockets that it makes belong there.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        within(&self.name, action)
    }

    /// A program in the namespace, ready to be started.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A thread's namespace is its own: one is made, used and ended.
fn within<T: Send>(name: &str, action: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))
                .unwrap();
            action()
        });
        entered.join().unwrap()
    })
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}
