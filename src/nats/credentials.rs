//! How a client proves who it is. The secrets come as the contents of files; no error and no `Debug` shows them.

use std::fmt;

use super::connect::{Connect, Info};
use super::nkey::{Nkey, NkeyError};

/// What a client proves who it is by.
#[derive(Default)]
pub enum Credentials {
    #[default]
    None,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// An nkey that the server has in its configuration.
    Nkey(Nkey),
    /// A JWT that an account has signed, and the nkey that it is for.
    Jwt {
        jwt: String,
        key: Nkey,
    },
}

/// Why there are no credentials in a file, or why they can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsError {
    NotText,
    Empty,
    /// A password or token of more than one line.
    SeveralLines,
    /// A file of credentials without this part.
    Missing(&'static str),
    /// What stands for a JWT is none: three parts with points between them.
    NotAJwt,
    Nkey(NkeyError),
    /// The server sent nothing to be signed, as one does that does not know nkeys of users.
    NoNonce,
}

impl Credentials {
    /// A user's password: the one line of a file.
    pub fn password(user: &str, file: &[u8]) -> Result<Credentials, CredentialsError> {
        Ok(Credentials::Password { user: user.to_owned(), password: one_line(file)?.to_owned() })
    }

    /// A token: the one line of a file.
    pub fn token(file: &[u8]) -> Result<Credentials, CredentialsError> {
        Ok(Credentials::Token(one_line(file)?.to_owned()))
    }

    /// The seed of an nkey: the one line of a file, or the block for it of a file with several.
    pub fn nkey(file: &[u8]) -> Result<Credentials, CredentialsError> {
        Ok(Credentials::Nkey(seed_of(text_of(file)?)?))
    }

    /// A file of credentials, as `nsc` makes it: a block with the JWT, and one with the seed.
    pub fn creds(file: &[u8]) -> Result<Credentials, CredentialsError> {
        let text = text_of(file)?;
        let jwt = block(text, "USER JWT").ok_or(CredentialsError::Missing("the JWT of a user"))?;
        let is_part = |part: &str| {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
            !part.is_empty() && part.bytes().all(is_safe)
        };
        if jwt.split('.').count() != 3 || !jwt.split('.').all(is_part) {
            return Err(CredentialsError::NotAJwt);
        }
        if block(text, "NKEY SEED").is_none() {
            return Err(CredentialsError::Missing("the seed of an nkey"));
        }
        Ok(Credentials::Jwt { jwt, key: seed_of(text)? })
    }

    /// The signature of a nonce, in base64url without padding; None for what signs nothing.
    pub fn sign(&self, nonce: &str) -> Option<String> {
        match self {
            Credentials::Nkey(key) | Credentials::Jwt { key, .. } => Some(key.sign(nonce)),
            Credentials::None | Credentials::Password { .. } | Credentials::Token(_) => None,
        }
    }

    /// Fills in what proves who we are to this server.
    pub fn prove<'a>(
        &'a self,
        info: &Info,
        connect: &mut Connect<'a>,
    ) -> Result<(), CredentialsError> {
        match self {
            Credentials::None => {}
            Credentials::Password { user, password } => {
                connect.user = Some(user);
                connect.password = Some(password);
            }
            Credentials::Token(token) => connect.token = Some(token),
            Credentials::Nkey(key) => connect.nkey = Some(key.public().to_owned()),
            Credentials::Jwt { jwt, .. } => connect.jwt = Some(jwt),
        }
        if matches!(self, Credentials::Nkey(_) | Credentials::Jwt { .. }) {
            let nonce = info.nonce.as_deref().filter(|nonce| !nonce.is_empty());
            connect.signature = self.sign(nonce.ok_or(CredentialsError::NoNonce)?);
        }
        Ok(())
    }
}

fn text_of(file: &[u8]) -> Result<&str, CredentialsError> {
    let text = std::str::from_utf8(file).map_err(|_| CredentialsError::NotText)?.trim();
    if text.is_empty() { Err(CredentialsError::Empty) } else { Ok(text) }
}

fn one_line(file: &[u8]) -> Result<&str, CredentialsError> {
    let text = std::str::from_utf8(file).map_err(|_| CredentialsError::NotText)?;
    // Blanks may belong to a password; the end of the file's last line does not.
    let text = text.trim_end_matches(['\r', '\n']);
    match text {
        "" => Err(CredentialsError::Empty),
        text if text.contains(['\r', '\n']) => Err(CredentialsError::SeveralLines),
        text => Ok(text),
    }
}

fn seed_of(text: &str) -> Result<Nkey, CredentialsError> {
    let seed = match block(text, "NKEY SEED") {
        Some(seed) => seed,
        None if text.contains(['\r', '\n']) => return Err(CredentialsError::SeveralLines),
        None => text.to_owned(),
    };
    Nkey::from_seed(&seed).map_err(CredentialsError::Nkey)
}

/// What stands between `-----BEGIN … <name>-----` and the next line of dashes.
fn block(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let title = line.trim_matches('-').trim();
        line.starts_with("---") && title.starts_with("BEGIN ") && title.ends_with(name)
    })?;
    let inside: String = lines.take_while(|line| !line.starts_with("---")).collect();
    (!inside.is_empty()).then_some(inside)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Password { user, .. } => write!(f, "Password({user:?})"),
            Credentials::Token(_) => f.write_str("Token"),
            Credentials::Nkey(key) => key.fmt(f),
            Credentials::Jwt { key, .. } => write!(f, "Jwt({key:?})"),
        }
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialsError::NotText => f.write_str("it is not text (UTF-8)"),
            CredentialsError::Empty => f.write_str("it is empty"),
            CredentialsError::SeveralLines => f.write_str("it has more than one line"),
            CredentialsError::Missing(what) => write!(f, "{what} is missing in it"),
            CredentialsError::NotAJwt => f.write_str("what stands for the JWT is none"),
            CredentialsError::Nkey(error) => error.fmt(f),
            CredentialsError::NoNonce => {
                f.write_str("the server sent no nonce to sign, so it takes no nkeys")
            }
        }
    }
}

impl std::error::Error for CredentialsError {}
