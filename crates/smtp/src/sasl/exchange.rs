use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Credentials, Mechanism, SaslError, Secret, login, plain};

/// The server's side of an exchange.
#[derive(Debug)]
pub struct ServerExchange {
    mechanism: Mechanism,
    state: ServerState,
}

impl ServerExchange {
    /// Begins an exchange; the first step takes the initial response, if the client gave one.
    pub fn new(mechanism: Mechanism) -> Self {
        let state = match mechanism {
            Mechanism::Plain => ServerState::Plain,
            Mechanism::Login => ServerState::LoginName,
        };
        Self { mechanism, state }
    }

    /// The mechanism of this exchange.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The first step: with the initial response in base64, or without.
    ///
    /// # Errors
    ///
    /// [`SaslError`]; the exchange is over then.
    pub fn start(&mut self, initial: Option<&str>) -> Result<ServerStep, SaslError> {
        match initial {
            // RFC 4954 §4: `=` is an initial response of no octets.
            Some("=") => self.take(b""),
            Some(text) => self.step(text),
            None => Ok(ServerStep::Challenge(match self.state {
                ServerState::Plain => String::new(),
                ServerState::LoginName => STANDARD.encode(login::ASK_NAME),
                ServerState::LoginPassword { .. } => STANDARD.encode(login::ASK_PASSWORD),
            })),
        }
    }

    /// A further step, with the client's line.
    ///
    /// # Errors
    ///
    /// [`SaslError`]; the exchange is over then.
    pub fn step(&mut self, line: &str) -> Result<ServerStep, SaslError> {
        if line == "*" {
            return Err(SaslError::Cancelled);
        }
        let message = STANDARD.decode(line).map_err(|_| SaslError::Base64)?;
        self.take(&message)
    }

    fn take(&mut self, message: &[u8]) -> Result<ServerStep, SaslError> {
        match &mut self.state {
            ServerState::Plain => plain::parse(message).map(ServerStep::Credentials),
            ServerState::LoginName => {
                let name = login::field(message)?.to_owned();
                self.state = ServerState::LoginPassword { name };
                Ok(ServerStep::Challenge(STANDARD.encode(login::ASK_PASSWORD)))
            }
            ServerState::LoginPassword { name } => Ok(ServerStep::Credentials(Credentials {
                authorization_identity: None,
                authentication_identity: std::mem::take(name),
                secret: Secret::new(login::field(message)?),
            })),
        }
    }
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Send this, in base64 already, behind `334`.
    Challenge(String),
    /// Judge these.
    Credentials(Credentials),
}

#[derive(Debug)]
enum ServerState {
    Plain,
    LoginName,
    LoginPassword { name: String },
}

/// The client's side of an exchange.
#[derive(Debug)]
pub struct ClientExchange {
    mechanism: Mechanism,
    credentials: Credentials,
    answered: usize,
}

impl ClientExchange {
    /// Begins an exchange.
    pub fn new(mechanism: Mechanism, credentials: Credentials) -> Self {
        Self {
            mechanism,
            credentials,
            answered: 0,
        }
    }

    /// The mechanism of this exchange.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response in base64, if the mechanism has one.
    pub fn initial(&mut self) -> Option<String> {
        match self.mechanism {
            Mechanism::Plain => {
                self.answered += 1;
                Some(STANDARD.encode(plain::message(&self.credentials)))
            }
            // Some servers of LOGIN refuse an initial response.
            Mechanism::Login => None,
        }
    }

    /// The answer, in base64, to a challenge; `None` when the mechanism has no more to say.
    pub fn step(&mut self, _challenge: &str) -> Option<String> {
        // The challenges of LOGIN are free text: their order counts, not their words.
        let message = match (self.mechanism, self.answered) {
            (Mechanism::Login, 0) => self.credentials.authentication_identity.as_bytes(),
            (Mechanism::Login, 1) => self.credentials.secret.expose().as_bytes(),
            _ => return None,
        };
        let message = STANDARD.encode(message);
        self.answered += 1;
        Some(message)
    }
}
