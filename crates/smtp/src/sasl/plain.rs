//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd` in one message.

use super::{Credentials, SaslError, Secret};

pub(super) fn parse(message: &[u8]) -> Result<Credentials, SaslError> {
    let text = str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    let mut fields = text.split('\0');
    let (Some(authorization), Some(authentication), Some(secret), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(SaslError::Malformed);
    };
    // RFC 4616 §2: neither may be empty.
    if authentication.is_empty() || secret.is_empty() {
        return Err(SaslError::Malformed);
    }
    Ok(Credentials {
        authorization_identity: (!authorization.is_empty()).then(|| authorization.to_owned()),
        authentication_identity: authentication.to_owned(),
        secret: Secret::new(secret),
    })
}

pub(super) fn message(credentials: &Credentials) -> Vec<u8> {
    let authorization = credentials
        .authorization_identity
        .as_deref()
        .unwrap_or_default();
    let fields = [
        authorization,
        &credentials.authentication_identity,
        credentials.secret.expose(),
    ];
    fields.join("\0").into_bytes()
}
