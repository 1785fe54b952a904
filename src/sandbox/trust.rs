//! Where programs look for the authorities that they trust: the places that a sandbox's own are bound over, and the
//! variables that name them. Only a sandbox whose TLS is ended by its gateway has any.

use std::path::Path;

use crate::container::TrustBundle;

/// The bundle's file in the slot's inner directory.
pub const BUNDLE_NAME: &str = "ca.pem";
/// The same inside.
pub const BUNDLE: &str = "/.aegis/ca.pem";
/// Java's form of it in the slot's inner directory.
pub const KEY_STORE_NAME: &str = "cacerts";

/// Places of distributions. One that an image lacks is made by the engine, in the container's own layer.
pub const PLACES: [&str; 4] = [
    // Debian, Alpine, Arch, and what Go looks for first.
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora and its relatives.
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE.
    "/etc/ssl/ca-bundle.pem",
    // Alpine, and OpenSSL where it was built by itself.
    "/etc/ssl/cert.pem",
];

/// Where these lead in images in which they are links: a mount lies on what a link leads to.
pub const BEHIND_LINKS: [&str; 4] = [
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-certificates.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/var/lib/ca-certificates/pem/ca-certificates.crt",
];

/// Places of the distributions' Java.
pub const KEY_STORE_PLACES: [&str; 2] = [
    // Debian and Alpine.
    "/etc/ssl/certs/java/cacerts",
    // Fedora and its relatives.
    "/etc/pki/java/cacerts",
];

/// Where these lead in images in which they are links.
pub const KEY_STORE_BEHIND_LINKS: [&str; 2] = [
    // Fedora.
    "/etc/pki/ca-trust/extracted/java/cacerts",
    // Arch.
    "/etc/ca-certificates/extracted/java-cacerts.jks",
];

/// Variables of programs that bring their own authorities, or look elsewhere.
pub const VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// The authorities that a sandbox trusts, in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// PEM.
    pub pem: String,
    /// PKCS#12, for Java.
    pub key_store: Vec<u8>,
}

/// The variables with their value.
pub fn variables() -> Vec<(String, String)> {
    VARIABLES.iter().map(|it| ((*it).to_owned(), BUNDLE.to_owned())).collect()
}

/// What is bound of the files in a slot's inner directory.
pub fn bundles(inner: &Path) -> Vec<TrustBundle> {
    let bundle = |name: &str, targets: &[&str], behind_links: &[&str]| TrustBundle {
        source: inner.join(name),
        targets: targets.iter().map(|it| (*it).to_owned()).collect(),
        behind_links: behind_links.iter().map(|it| (*it).to_owned()).collect(),
    };
    vec![
        bundle(BUNDLE_NAME, &PLACES, &BEHIND_LINKS),
        bundle(KEY_STORE_NAME, &KEY_STORE_PLACES, &KEY_STORE_BEHIND_LINKS),
    ]
}
