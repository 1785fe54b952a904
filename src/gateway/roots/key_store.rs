//! A file of authorities as Java reads it: PKCS#12 (RFC 7292) of certificates alone. There is no key in it and nothing to
//! hide, so it is neither encrypted nor sealed, as Java's own has been since release 18; earlier ones read it as well.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const BMP_STRING: u8 = 0x1E;
/// `[0]`, constructed: what stands in it is told by the object identifier before it.
const CONTENT: u8 = 0xA0;

/// The version of a PFX, an INTEGER: 3.
const VERSION: [u8; 3] = [0x02, 0x01, 0x03];
/// pkcs7-data, 1.2.840.113549.1.7.1.
const DATA: [u8; 11] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01];
/// pkcs12-certBag, 1.2.840.113549.1.12.10.1.3.
const CERTIFICATE_BAG: [u8; 13] =
    [0x06, 0x0B, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x0A, 0x01, 0x03];
/// x509Certificate, 1.2.840.113549.1.9.22.1.
const X509: [u8; 12] = [0x06, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x16, 0x01];
/// friendlyName, 1.2.840.113549.1.9.20: what Java lists an entry by.
const FRIENDLY_NAME: [u8; 11] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x14];
/// Oracle's trustedKeyUsage, 2.16.840.1.113894.746875.1.1: Java trusts no certificate without it.
const TRUSTED_KEY_USAGE: [u8; 14] =
    [0x06, 0x0C, 0x60, 0x86, 0x48, 0x01, 0x86, 0xF9, 0x66, 0xAD, 0xCA, 0x7B, 0x01, 0x01];
/// anyExtendedKeyUsage, 2.5.29.37.0.
const ANY_USAGE: [u8; 6] = [0x06, 0x04, 0x55, 0x1D, 0x25, 0x00];

/// These certificates, DER, as authorities.
pub(super) fn key_store<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bags = Vec::new();
    for (at, certificate) in certificates.enumerate() {
        bags.extend(bag(at, certificate));
    }
    // One safe: what a PFX authenticates is a sequence of them.
    let safes = element(SEQUENCE, &[&data(&element(SEQUENCE, &[&bags]))]);
    element(SEQUENCE, &[&VERSION, &data(&safes)])
}

/// One certificate. Entries of the same name would replace each other.
fn bag(at: usize, certificate: &[u8]) -> Vec<u8> {
    let content = element(CONTENT, &[&element(OCTET_STRING, &[certificate])]);
    let value = element(CONTENT, &[&element(SEQUENCE, &[&X509, &content])]);
    let name: Vec<u8> = format!("authority-{at}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let name = attribute(&FRIENDLY_NAME, &element(BMP_STRING, &[&name]));
    let trusted = attribute(&TRUSTED_KEY_USAGE, &ANY_USAGE);
    element(SEQUENCE, &[&CERTIFICATE_BAG, &value, &element(SET, &[&name, &trusted])])
}

fn attribute(identifier: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[identifier, &element(SET, &[value])])
}

/// Content of the kind `data`.
fn data(bytes: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&DATA, &element(CONTENT, &[&element(OCTET_STRING, &[bytes])])])
}

/// Tag, length and what follows.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|it| it.len()).sum();
    let mut out = vec![tag];
    if let Ok(short @ 0..=0x7F) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let digits = &bytes[length.leading_zeros() as usize / 8..];
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(digits);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_length(length: usize, head: &[u8]) {
        let written = element(OCTET_STRING, &[&vec![7; length]]);
        assert_eq!(written[..head.len()], *head);
        assert_eq!(written.len(), head.len() + length);
    }

    #[test]
    fn a_length_takes_as_few_bytes_as_it_can() {
        check_length(0, &[4, 0]);
        check_length(0x7F, &[4, 0x7F]);
        check_length(0x80, &[4, 0x81, 0x80]);
        check_length(0xFF, &[4, 0x81, 0xFF]);
        check_length(0x100, &[4, 0x82, 1, 0]);
        check_length(0x0001_2345, &[4, 0x83, 1, 0x23, 0x45]);
    }

    #[test]
    fn each_certificate_is_in_it_under_a_name_of_its_own() {
        let certificates: [&[u8]; 2] = [b"first certificate", b"second certificate"];
        let store = key_store(certificates.into_iter());
        let times = |part: &[u8]| store.windows(part.len()).filter(|it| *it == part).count();
        for (at, certificate) in certificates.into_iter().enumerate() {
            let name: Vec<u8> = format!("authority-{at}").bytes().flat_map(|it| [0, it]).collect();
            assert_eq!((times(certificate), times(&name)), (1, 1));
        }
        assert_eq!(times(&TRUSTED_KEY_USAGE), 2);
    }
}
