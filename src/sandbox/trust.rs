//! Where programs look for the authorities that they trust: the places that a sandbox's own bundle is bound over, and the
//! variables that name it. Only a sandbox whose TLS is ended by its gateway has one.

/// The bundle's file in the slot's inner directory.
pub const BUNDLE_NAME: &str = "ca.pem";
/// The same inside.
pub const BUNDLE: &str = "/.aegis/ca.pem";

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

/// Variables of programs that bring their own authorities, or look elsewhere.
pub const VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// The variables with their value.
pub fn variables() -> Vec<(String, String)> {
    VARIABLES.iter().map(|it| ((*it).to_owned(), BUNDLE.to_owned())).collect()
}

/// Whether the bundle may be mounted here.
pub fn is_place(point: &str) -> bool {
    PLACES.contains(&point) || BEHIND_LINKS.contains(&point)
}
