//! Passwords and what relays keep of them.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{ScramVerifier, Secret};

/// 32 random octets as text that needs no quoting anywhere.
pub(crate) fn generate() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// A verifier with a new salt (RFC 5802 §3).
pub(crate) fn verifier(password: &Secret) -> ScramVerifier {
    derive(password, random::<16>().to_vec(), ITERATIONS)
}

/// Whether `verifier` was made from `password`.
pub(crate) fn matches(verifier: &ScramVerifier, password: &Secret) -> bool {
    let again = derive(password, verifier.salt.clone(), verifier.iterations);
    constant_time::verify_slices_are_equal(&again.stored_key, &verifier.stored_key).is_ok()
        && constant_time::verify_slices_are_equal(&again.server_key, &verifier.server_key).is_ok()
}

/// RFC 7677 §4: at least 4096. More would not help: passwords are random, not chosen.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

fn derive(password: &Secret, salt: Vec<u8>, iterations: NonZeroU32) -> ScramVerifier {
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.expose().as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    ScramVerifier {
        salt,
        iterations,
        stored_key: octets(stored_key.as_ref()),
        server_key: octets(server_key.as_ref()),
    }
}

fn octets(of: &[u8]) -> [u8; 32] {
    of.try_into().expect("SHA-256 gives 32 octets")
}

/// # Panics
/// When the system has no randomness: nothing safe can be done then.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).expect("the system gives random octets");
    octets
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use config::Secret;

    use super::{derive, generate, matches, verifier};

    #[test]
    fn known_answer() {
        // RFC 7677 §3: user "user", password "pencil". ServerSignature = HMAC(ServerKey, AuthMessage).
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = derive(&Secret::new("pencil"), salt, NonZeroU32::new(4096).unwrap());
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &verifier.server_key);
        let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        assert_eq!(
            STANDARD.encode(signature.as_ref()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn only_the_password_matches() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        let made = verifier(&one);
        assert!(matches(&made, &one));
        assert!(!matches(&made, &other));
        assert_ne!(made.salt, verifier(&one).salt);
    }
}
