//! LOGIN: the server asks for a name, then for a password. Without a standard; what clients do is in
//! draft-murchison-sasl-login.

use super::SaslError;

pub(super) const ASK_NAME: &[u8] = b"Username:";
pub(super) const ASK_PASSWORD: &[u8] = b"Password:";

pub(super) fn field(message: &[u8]) -> Result<&str, SaslError> {
    let text = str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    if text.is_empty() || text.contains('\0') {
        return Err(SaslError::Malformed);
    }
    Ok(text)
}
