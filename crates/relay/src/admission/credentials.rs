//! Who authenticates: passwords of PLAIN and LOGIN against SCRAM-SHA-256 verifiers.
//!
//! The relay holds verifiers, never passwords (RFC 5802 §3): `StoredKey = H(HMAC(Hi(password, salt,
//! i), "Client Key"))`. `Hi` is PBKDF2 and costs a core some milliseconds, so a password that has
//! proven itself is remembered, as an HMAC under a key of this process, and only once per
//! credential: the memory is bounded by the configuration and ends with it.
//!
//! Refusals tell nothing: an unknown name costs the same derivation as a wrong password, and
//! comparisons take the same time wherever they differ.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use config::{ScramVerifier, SenderPattern};
use tokio::sync::Semaphore;

/// Somebody who may authenticate.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) username: String,
    pub(crate) tenant: String,
    /// None given means any.
    pub(crate) allowed_senders: Vec<SenderPattern>,
    pub(crate) verifier: ScramVerifier,
}

/// The credentials of one configuration.
#[derive(Debug)]
pub(crate) struct Credentials {
    by_username: HashMap<String, Arc<Entry>>,
    /// Makes passwords into what is remembered of them.
    memory_key: hmac::Key,
    decoy: Arc<Entry>,
    /// Derivations at a time, so that guesses leave the other cores to the mail.
    derivations: Arc<Semaphore>,
}

impl Credentials {
    pub(crate) fn new(credentials: impl IntoIterator<Item = Credential>) -> Self {
        let mut memory_key = [0; KEY_LENGTH];
        rand::fill(&mut memory_key).expect("the system's random source works");
        let by_username: HashMap<_, _> = credentials
            .into_iter()
            .map(|credential| {
                (
                    credential.username.clone(),
                    Arc::new(Entry::new(credential)),
                )
            })
            .collect();
        let usual_iterations = by_username
            .values()
            .next()
            .map(|e| e.credential.verifier.iterations);
        Self {
            by_username,
            memory_key: hmac::Key::new(hmac::HMAC_SHA256, &memory_key),
            decoy: Arc::new(Entry::new(decoy(usual_iterations))),
            derivations: Arc::new(Semaphore::new(DERIVATIONS)),
        }
    }

    /// The credential of `username`, if `password` is its password.
    pub(crate) async fn verify(&self, username: &str, password: &str) -> Option<Arc<Credential>> {
        let entry = self.by_username.get(username).unwrap_or(&self.decoy);
        let tag = hmac::sign(&self.memory_key, password.as_bytes());
        if entry.remembers(tag.as_ref()) {
            return Some(Arc::clone(&entry.credential));
        }
        // Closed never; if it were, nobody would authenticate.
        let permit = Arc::clone(&self.derivations).acquire_owned().await.ok()?;
        if entry.remembers(tag.as_ref()) {
            return Some(Arc::clone(&entry.credential));
        }
        let verifier = entry.credential.verifier.clone();
        let password = password.as_bytes().to_vec();
        let proven = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            proves(&verifier, &password)
        })
        .await
        .unwrap_or(false);
        // No password is the decoy's; that it is not handed out whatever happens is cheap to say.
        if !proven || Arc::ptr_eq(entry, &self.decoy) {
            return None;
        }
        entry.remember(tag.as_ref());
        Some(Arc::clone(&entry.credential))
    }

    /// What is now configured under the name and the very secret of `credential`: `None` once it
    /// has been revoked or its password changed.
    pub(crate) fn current(&self, credential: &Credential) -> Option<Arc<Credential>> {
        self.by_username
            .get(&credential.username)
            .map(|entry| &entry.credential)
            .filter(|current| current.verifier == credential.verifier)
            .map(Arc::clone)
    }
}

/// RFC 5802 §3, with the password as it came: SASLprep (RFC 4013) changes nothing in the ASCII of
/// generated passwords.
fn proves(verifier: &ScramVerifier, password: &[u8]) -> bool {
    let mut salted = [0; KEY_LENGTH];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        verifier.iterations,
        &verifier.salt,
        password,
        &mut salted,
    );
    let client_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    verify_slices_are_equal(stored_key.as_ref(), &verifier.stored_key).is_ok()
}

#[derive(Debug)]
struct Entry {
    credential: Arc<Credential>,
    proven: Mutex<Option<[u8; KEY_LENGTH]>>,
}

impl Entry {
    fn new(credential: Credential) -> Self {
        Self {
            credential: Arc::new(credential),
            proven: Mutex::new(None),
        }
    }

    fn remembers(&self, tag: &[u8]) -> bool {
        let proven = *self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.is_some_and(|proven| verify_slices_are_equal(&proven, tag).is_ok())
    }

    fn remember(&self, tag: &[u8]) {
        let tag = tag.try_into().ok();
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = tag;
    }
}

/// Nobody, with a verifier like everybody's.
fn decoy(iterations: Option<NonZeroU32>) -> Credential {
    let mut random = [0; 16 + KEY_LENGTH];
    rand::fill(&mut random).expect("the system's random source works");
    let (salt, stored_key) = random.split_at(16);
    Credential {
        username: String::new(),
        tenant: String::new(),
        allowed_senders: Vec::new(),
        verifier: ScramVerifier {
            salt: salt.to_vec(),
            iterations: iterations.unwrap_or(MIN_ITERATIONS),
            stored_key: stored_key.try_into().expect("32 octets are left"),
            server_key: [0; KEY_LENGTH],
        },
    }
}

/// Of SHA-256.
const KEY_LENGTH: usize = 32;

const DERIVATIONS: usize = 2;
/// RFC 7677 §4.
const MIN_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("is not zero");

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn key(base64: &str) -> [u8; KEY_LENGTH] {
        BASE64_STANDARD.decode(base64).unwrap().try_into().unwrap()
    }

    /// The exchange of RFC 7677 §3: user, pencil.
    fn user() -> Credential {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Credential {
            username: "user".to_owned(),
            tenant: "shop".to_owned(),
            allowed_senders: Vec::new(),
            verifier: ScramVerifier {
                salt,
                iterations: MIN_ITERATIONS,
                stored_key: key("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
                server_key: key("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
            },
        }
    }

    #[test]
    fn verifier_of_the_standard() {
        assert!(proves(&user().verifier, b"pencil"));
        assert!(!proves(&user().verifier, b"pencil "));
        assert!(!proves(&user().verifier, b""));
    }

    #[tokio::test]
    async fn remembers_one_password_and_only_a_proven_one() {
        let credentials = Credentials::new([user()]);
        assert!(credentials.verify("user", "pen").await.is_none());
        assert!(
            credentials.by_username["user"]
                .proven
                .lock()
                .unwrap()
                .is_none()
        );

        assert_eq!(
            credentials.verify("user", "pencil").await.unwrap().tenant,
            "shop"
        );
        let remembered = *credentials.by_username["user"].proven.lock().unwrap();
        assert!(remembered.is_some());
        assert_ne!(&remembered.unwrap()[..6], b"pencil");

        // No derivation can be had: whoever gets in now does so from memory.
        let _all = credentials
            .derivations
            .acquire_many(u32::try_from(DERIVATIONS).unwrap())
            .await
            .unwrap();
        assert!(credentials.verify("user", "pencil").await.is_some());
        let wrong = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            credentials.verify("user", "pen"),
        );
        assert!(
            wrong.await.is_err(),
            "a wrong password is derived each time"
        );
    }

    #[tokio::test]
    async fn unknown_names_are_refused_after_the_same_work() {
        let credentials = Credentials::new([user()]);
        let iterations = credentials.decoy.credential.verifier.iterations;
        assert_eq!(iterations, user().verifier.iterations);
        for name in ["", "nobody", "User"] {
            assert!(
                credentials.verify(name, "pencil").await.is_none(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_changed_or_revoked_credential_is_not_current() {
        let held = user();
        let mut renamed_tenant = user();
        renamed_tenant.tenant = "other".to_owned();
        let current = Credentials::new([renamed_tenant]).current(&held).unwrap();
        assert_eq!(current.tenant, "other");

        let mut changed = user();
        changed.verifier.salt = b"another".to_vec();
        assert!(Credentials::new([changed]).current(&held).is_none());
        assert!(Credentials::new([]).current(&held).is_none());
    }

    #[test]
    fn debug_tells_no_verifier() {
        let text = format!("{:?}", user());
        assert!(text.contains("verifier: ScramVerifier(..)"), "{text}");
    }
}
