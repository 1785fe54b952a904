//! The certificate authority of one run: what the gateway shows to a task in a server's place.
//!
//! It is made before the run's container, lives in memory only, and is worth nothing elsewhere: its certificate is
//! constrained to the names that the run's rules inspect, and ends with the run. The owner makes it and hands it to
//! the gateway's process over their connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// How long before its making a certificate is valid, for clocks that were set back.
const BEFORE: Duration = Duration::from_secs(60 * 60);
/// The longest life of an authority: no run is longer.
const LIFE_MAX: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// Subtrees that one certificate names at the most; some clients take time for each.
const SUBTREES_MAX: usize = 256;
/// Names whose certificates are kept.
const LEAVES_MAX: usize = 256;
/// What is offered to a task's client.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// An authority with its key.
pub struct Authority {
    certificate: String,
    label: String,
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    ends: SystemTime,
    provider: Arc<CryptoProvider>,
    leaves: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

/// An authority on its way from the owner to the gateway.
#[derive(Clone)]
pub struct Handover {
    /// Its certificate, PEM.
    pub certificate: String,
    /// What its name ends with.
    pub label: String,
    /// Its key, PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// When it ends, seconds since the epoch.
    pub ends_s: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Nothing to be constrained to.
    #[error("no name is inspected, so there is nothing that an authority may certify")]
    NoNames,
    /// More names than a certificate may carry.
    #[error(
        "{count} inspected names are more than the {SUBTREES_MAX} that a certificate may carry: use fewer rules"
    )]
    TooManyNames {
        /// How many.
        count: usize,
    },
    /// A key or certificate could not be made or read.
    #[error("a certificate for the gateway cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library takes it not.
    #[error("a certificate for the gateway cannot be used")]
    Tls(#[from] rustls::Error),
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("label", &self.label).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handover").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one that can certify the given names and what lies below them, from `now` for `life`.
    pub fn make(names: &[String], now: SystemTime, life: Duration) -> Result<Self, AuthorityError> {
        if names.is_empty() {
            return Err(AuthorityError::NoNames);
        }
        if names.len() > SUBTREES_MAX {
            return Err(AuthorityError::TooManyNames { count: names.len() });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (label, ends) = (uuid::Uuid::now_v7().simple().to_string(), now + life.min(LIFE_MAX));
        let mut params = issuer_params(&label);
        params.not_before = (now - BEFORE).into();
        params.not_after = ends.into();
        params.name_constraints = Some(constraints(names));
        let certificate = params.self_signed(&key)?;
        Self::with(certificate.pem(), label, key, ends)
    }

    /// Takes over what an owner made.
    pub fn take_over(handover: &Handover) -> Result<Self, AuthorityError> {
        let der = PrivatePkcs8KeyDer::from(handover.key.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?;
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(handover.ends_s);
        Self::with(handover.certificate.clone(), handover.label.clone(), key, ends)
    }

    fn with(
        certificate: String,
        label: String,
        key: KeyPair,
        ends: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let issuer = Issuer::new(issuer_params(&label), key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // One key for every name: whoever had one would have the process that has them all.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { certificate, label, issuer, key, ends, provider, leaves: Mutex::default() })
    }

    /// Everything that the gateway's process needs of it.
    pub fn handover(&self) -> Handover {
        Handover {
            certificate: self.certificate.clone(),
            label: self.label.clone(),
            key: Zeroizing::new(self.issuer.key().serialize_der()),
            ends_s: self.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        }
    }

    /// Its certificate, PEM: what the sandbox has to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The server's side of TLS under this name, made at the first call and kept.
    pub fn server(&self, name: &str) -> Result<Arc<ServerConfig>, AuthorityError> {
        let kept = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(server) = kept {
            return Ok(server);
        }
        let server = Arc::new(self.make_server(name)?);
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), server.clone());
        Ok(server)
    }

    fn make_server(&self, name: &str) -> Result<ServerConfig, AuthorityError> {
        let leaf = self.leaf(name)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        server.alpn_protocols = PROTOCOLS.iter().map(|it| it.to_vec()).collect();
        Ok(server)
    }

    fn leaf(&self, name: &str) -> Result<Certificate, AuthorityError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        // A host name may be longer than a common name; the alternative name is what counts.
        params.distinguished_name = named("Aegis gateway");
        params.not_before = (SystemTime::now() - BEFORE).into();
        params.not_after = self.ends.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.key, &self.issuer)?)
    }
}

/// What stays the same of an authority wherever it is.
fn issuer_params(label: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Aegis run {label}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// These names and what is below them, and no address.
fn constraints(names: &[String]) -> NameConstraints {
    NameConstraints {
        permitted_subtrees: names.iter().cloned().map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{Error, RootCertStore};

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn authority(names: &[&str]) -> Authority {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        Authority::make(&names, SystemTime::now(), HOUR).expect("an authority")
    }

    /// What a client says that trusts this certificate alone.
    fn verify(root: &str, leaf: &Certificate, name: &str, at: SystemTime) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).expect("after"));
        let verified = verifier.expect("a verifier").verify_server_cert(leaf.der(), &[], &name, &[], now);
        verified.map(drop)
    }

    #[track_caller]
    fn check(authority: &Authority, issued: &str, asked: &str, expected: Result<(), Error>) {
        let leaf = authority.leaf(issued).expect("a leaf");
        assert_eq!(verify(authority.certificate(), &leaf, asked, SystemTime::now()), expected);
    }

    #[test]
    fn a_client_that_trusts_it_believes_its_names() {
        let authority = authority(&["api.example.org", "example.net"]);
        check(&authority, "api.example.org", "api.example.org", Ok(()));
        check(&authority, "deep.sub.example.net", "deep.sub.example.net", Ok(()));
        let long = format!("{}.{}.example.net", "a".repeat(63), "b".repeat(63));
        check(&authority, &long, &long, Ok(()));
    }

    #[test]
    fn a_certificate_for_one_name_is_none_for_another() {
        let authority = authority(&["example.org"]);
        let leaf = authority.leaf("a.example.org").expect("a leaf");
        assert!(verify(authority.certificate(), &leaf, "b.example.org", SystemTime::now()).is_err());
    }

    #[test]
    fn a_name_that_is_not_inspected_is_believed_by_nobody() {
        let authority = authority(&["api.example.org"]);
        for name in
            ["example.org", "other.example.org", "evilapi.example.org", "api.example.org.evil.example"]
        {
            let leaf = authority.leaf(name).expect("a leaf");
            let verified = verify(authority.certificate(), &leaf, name, SystemTime::now());
            let told = format!("{verified:?}");
            assert!(told.contains("NameConstraintViolation"), "{name}: {told}");
        }
    }

    #[test]
    fn it_ends_with_its_run() {
        let authority = authority(&["api.example.org"]);
        let leaf = authority.leaf("api.example.org").expect("a leaf");
        let later = verify(
            authority.certificate(),
            &leaf,
            "api.example.org",
            SystemTime::now() + HOUR + Duration::from_secs(60),
        );
        assert!(matches!(later, Err(Error::InvalidCertificate(_))), "{later:?}");
    }

    #[test]
    fn handed_over_it_is_the_same() {
        let made = authority(&["api.example.org"]);
        let taken = Authority::take_over(&made.handover()).expect("taken over");
        let leaf = taken.leaf("api.example.org").expect("a leaf");
        assert_eq!(verify(made.certificate(), &leaf, "api.example.org", SystemTime::now()), Ok(()));
    }

    #[test]
    fn two_runs_do_not_believe_each_other() {
        let (one, other) = (authority(&["api.example.org"]), authority(&["api.example.org"]));
        let leaf = one.leaf("api.example.org").expect("a leaf");
        assert!(verify(other.certificate(), &leaf, "api.example.org", SystemTime::now()).is_err());
    }

    #[test]
    fn without_a_name_there_is_none() {
        let made = Authority::make(&[], SystemTime::now(), HOUR);
        assert!(matches!(made, Err(AuthorityError::NoNames)), "{made:?}");
        let many = vec!["example.org".to_owned(); 257];
        let made = Authority::make(&many, SystemTime::now(), HOUR);
        assert!(matches!(made, Err(AuthorityError::TooManyNames { count: 257 })), "{made:?}");
    }

    #[test]
    fn a_names_certificate_is_made_once_and_the_kept_are_bounded() {
        let authority = authority(&["example.org"]);
        let first = authority.server("a.example.org").expect("a server");
        assert!(Arc::ptr_eq(&first, &authority.server("a.example.org").expect("a server")));
        for number in 0..LEAVES_MAX + 5 {
            authority.server(&format!("n{number}.example.org")).expect("a server");
        }
        assert!(authority.leaves.lock().expect("whole").len() <= LEAVES_MAX);
    }

    #[test]
    fn a_key_is_never_shown() {
        let authority = authority(&["example.org"]);
        let shown = format!("{authority:?} {:?}", authority.handover());
        assert!(!shown.contains("key"), "{shown}");
    }
}
