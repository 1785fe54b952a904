//! The authorities that this host trusts: those of its system, and what the operator adds. The gateway believes hosts by
//! them, and a sandbox whose TLS the gateway ends is given them with the run's own.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

mod key_store;

/// Certificates at the most: a system has some hundred and fifty.
const CERTIFICATES_MAX: usize = 1024;
/// Bytes of an operator's file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Characters of a line of PEM.
const LINE_CHARS: usize = 64;

/// Certificates of authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// An operator's file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It cannot be read.
    #[error("the authorities in `{}` cannot be read: see `roots` of `[gateway]`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no certificate.
    #[error("`{}` holds no certificate in PEM: see `roots` of `[gateway]`", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

impl Roots {
    /// Those of the system, and of the operator's files. A certificate of the system's that cannot be read is left out,
    /// as every other program does.
    pub fn load(files: &[PathBuf]) -> Result<Self, RootsError> {
        let mut roots = rustls_native_certs::load_native_certs().certs;
        for path in files {
            let bytes = read(path).map_err(|source| RootsError::Unreadable { path: path.clone(), source })?;
            let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
            if found.is_empty() {
                return Err(RootsError::NoCertificate { path: path.clone() });
            }
            roots.extend(found);
        }
        roots.truncate(CERTIFICATES_MAX);
        Ok(Self(roots))
    }

    /// From their bytes.
    pub fn of<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let certificates = certificates.into_iter().take(CERTIFICATES_MAX);
        Self(certificates.map(|it| CertificateDer::from(it.to_vec())).collect())
    }

    /// Their bytes.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// As the TLS library wants them. What is no authority to it is left out.
    pub fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.0.iter().cloned());
        store
    }

    /// As one text of PEM, with a further certificate in front.
    pub fn bundle(&self, first: &str) -> String {
        let mut text = first.trim_end().to_owned();
        text.push('\n');
        for certificate in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(certificate);
            let mut rest = encoded.as_str();
            while !rest.is_empty() {
                let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
                text.push_str(line);
                text.push('\n');
                rest = after;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    /// As Java reads them, with a further certificate in front, which is PEM.
    pub fn key_store(&self, first: &str) -> Vec<u8> {
        let first: Vec<_> = CertificateDer::pem_slice_iter(first.as_bytes()).filter_map(Result::ok).collect();
        key_store::key_store(first.iter().chain(&self.0).map(AsRef::as_ref))
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use crate::gateway::authority::Authority;

    use super::*;

    fn authority() -> Authority {
        let names = ["example.org".to_owned()];
        Authority::make(&names, SystemTime::now(), Duration::from_secs(60)).expect("an authority")
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        file
    }

    #[test]
    fn an_operators_authorities_stand_beside_the_systems() {
        let system = Roots::load(&[]).expect("loaded");
        let own = file(&format!("a comment\n{}{}", authority().certificate(), authority().certificate()));
        let both = Roots::load(&[own.path().to_owned()]).expect("loaded");
        assert_eq!(both.0.len(), system.0.len() + 2);
        assert_eq!(Roots::of(both.certificates()), both);
        assert!(both.store().len() >= 2);
    }

    #[test]
    fn a_bundle_is_read_as_what_it_was_made_of() {
        let roots = Roots::load(&[file(authority().certificate()).path().to_owned()]).expect("loaded");
        let run = authority();
        let bundle = roots.bundle(run.certificate());
        let read: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok).collect();
        assert_eq!(read.len(), roots.0.len() + 1);
        assert_eq!(read[1..], roots.0);
    }

    #[test]
    fn a_file_without_a_certificate_is_told() {
        let empty = file("nothing here\n");
        let path = empty.path().to_owned();
        assert!(matches!(Roots::load(&[path]), Err(RootsError::NoCertificate { .. })));
        let absent = PathBuf::from("/nonexistent/roots.pem");
        assert!(matches!(Roots::load(&[absent]), Err(RootsError::Unreadable { .. })));
    }
}
