//! Certificates: those the operator issues, and what it reads in those it is given.

use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// An authority for one relay and one purpose.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

#[derive(Clone, Copy)]
pub(crate) enum Usage {
    Server,
    Client,
}

impl Authority {
    /// A new one, good for ten years.
    pub(crate) fn generate(name: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(name, now)?.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A certificate for `names`, good for 90 days.
    pub(crate) fn issue(
        &self,
        names: &[String],
        usage: Usage,
        now: Timestamp,
    ) -> Result<Pair, CertificateError> {
        // What the issuer's name is stands in its certificate; its key is what signs.
        let subject = describe(&self.certificate)?.subject;
        let issuer = Issuer::new(
            authority_params(&subject, now)?,
            KeyPair::from_pem(&self.key)?,
        );
        let mut params = CertificateParams::new(names.to_vec())?;
        // No common name: it is limited to 64 characters and nobody reads it (RFC 9525 §2).
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        set_validity(&mut params, now, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// What matters of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) subject: String,
    /// DNS names and addresses it is for.
    pub(crate) names: Vec<String>,
    pub(crate) not_after: Timestamp,
}

impl Description {
    /// Whether it is for `name`; `*.` stands for one label (RFC 9525 §6.3).
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(parent) => name.split_once('.').is_some_and(|(label, rest)| {
                    !label.is_empty() && rest.eq_ignore_ascii_case(parent)
                }),
                None => pattern.eq_ignore_ascii_case(name),
            })
    }

    /// Whether a leaf of ours is in the last third of its life.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now + Span::new().hours(LEAF_DAYS * 24 / 3) >= self.not_after
    }
}

/// Reads the first certificate of a PEM chain.
pub(crate) fn describe(pem: &str) -> Result<Description, CertificateError> {
    let unreadable = || CertificateError::Unreadable;
    let pem = Pem::iter_from_buffer(pem.as_bytes())
        .find(|pem| pem.as_ref().is_ok_and(|pem| pem.label == "CERTIFICATE"))
        .and_then(Result::ok)
        .ok_or_else(unreadable)?;
    let certificate = pem.parse_x509().map_err(|_| unreadable())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| unreadable())?
        .map(|extension| {
            extension
                .value
                .general_names
                .iter()
                .filter_map(name)
                .collect()
        })
        .unwrap_or_default();
    let subject = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|_| unreadable())?;
    Ok(Description {
        subject,
        names,
        not_after,
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

fn authority_params(name: &str, now: Timestamp) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_DAYS);
    Ok(params)
}

/// Sets it from yesterday, since clocks differ, to so many days from now.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |hours: i64| {
        let at = now
            .saturating_add(Span::new().hours(hours))
            .unwrap_or(Timestamp::MAX);
        let date = at.to_zoned(TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = date(-24);
    params.not_after = date(days * 24);
}

const LEAF_DAYS: i64 = 90;
const AUTHORITY_DAYS: i64 = 3650;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CertificateError {
    #[error("no certificate can be read there")]
    Unreadable,
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use jiff::{Span, Timestamp};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{RootCertStore, client::WebPkiServerVerifier};

    use super::{Authority, Usage, describe};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn issued_certificates_are_believed_by_whoever_believes_the_authority() {
        let authority = Authority::generate("Kurier outbound", now()).unwrap();
        let names = [
            "outbound.mail.svc".to_owned(),
            "mail.example.com".to_owned(),
        ];
        let pair = authority.issue(&names, Usage::Server, now()).unwrap();

        let read = describe(&pair.certificate).unwrap();
        assert_eq!(read.names, names);
        assert!(read.covers("OUTBOUND.mail.svc") && !read.covers("mail.svc"));
        assert_eq!(read.not_after, "2026-05-30T00:00:00Z".parse().unwrap());

        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let leaf = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let at = UnixTime::since_unix_epoch(now().as_duration().unsigned_abs());
        let verify = |name: &str| {
            use rustls::client::danger::ServerCertVerifier as _;
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier
                .verify_server_cert(&leaf, &[], &name, &[], at)
                .is_ok()
        };
        assert!(verify("outbound.mail.svc"));
        assert!(!verify("other.mail.svc"));
    }

    #[test]
    fn renewal_is_due_in_the_last_third() {
        let authority = Authority::generate("x", now()).unwrap();
        let pair = authority
            .issue(&["a.test".to_owned()], Usage::Client, now())
            .unwrap();
        let read = describe(&pair.certificate).unwrap();
        assert!(!read.is_due(now() + Span::new().hours(58 * 24)));
        assert!(read.is_due(now() + Span::new().hours(61 * 24)));
    }

    #[test]
    fn wildcards_stand_for_one_label() {
        let authority = Authority::generate("x", now()).unwrap();
        let pair = authority
            .issue(&["*.example.com".to_owned()], Usage::Server, now())
            .unwrap();
        let read = describe(&pair.certificate).unwrap();
        assert!(read.covers("a.example.com"));
        assert!(!read.covers("a.b.example.com") && !read.covers("example.com"));
    }

    #[test]
    fn no_certificate() {
        for pem in [
            "",
            "x",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(describe(pem).is_err());
        }
    }
}
