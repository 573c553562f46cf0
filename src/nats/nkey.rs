//! Keys of users as NATS writes them: base32 of a prefix, 32 bytes of Ed25519, and a checksum.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// The key pair of a user. It shows its public key only.
pub struct Nkey {
    pair: Ed25519KeyPair,
    /// `U…`: what the server knows it by.
    public: String,
}

/// Why a text is not the seed of a user. It quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NkeyError {
    /// Not base32, or of another length.
    NotASeed,
    /// A public key in place of the seed.
    PublicKey,
    /// Of an account, an operator or a server.
    NotOfAUser,
    /// A letter is wrong.
    Checksum,
}

/// Five bits each: what `S` and `U` are in base32.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

impl Nkey {
    /// Reads a seed, `SU…`.
    pub fn from_seed(seed: &str) -> Result<Nkey, NkeyError> {
        let raw = BASE32_NOPAD.decode(seed.as_bytes()).map_err(|_| NkeyError::NotASeed)?;
        if raw.len() == 35 && raw[0] & 0xF8 != SEED {
            return Err(NkeyError::PublicKey);
        }
        let (body, sum) = raw.split_at_checked(34).ok_or(NkeyError::NotASeed)?;
        if raw.len() != 36 || body[0] & 0xF8 != SEED {
            return Err(NkeyError::NotASeed);
        }
        if checksum(body).to_le_bytes() != *sum {
            return Err(NkeyError::Checksum);
        }
        if (body[0] & 0x07) << 5 | body[1] >> 3 != USER {
            return Err(NkeyError::NotOfAUser);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&body[2..]);
        let pair = pair.map_err(|_| NkeyError::NotASeed)?;
        let mut public = vec![USER];
        public.extend_from_slice(pair.public_key().as_ref());
        public.extend_from_slice(&checksum(&public).to_le_bytes());
        Ok(Nkey { pair, public: BASE32_NOPAD.encode(&public) })
    }

    /// `U…`
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The signature of a nonce's bytes, in base64url without padding.
    pub fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(self.pair.sign(nonce.as_bytes()).as_ref())
    }
}

/// CRC-16/XMODEM.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    })
}

impl fmt::Debug for Nkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nkey({})", self.public)
    }
}

impl fmt::Display for NkeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NkeyError::NotASeed => "it is not the seed of an nkey (58 letters and digits, SU...)",
            NkeyError::PublicKey => "it is a public key; the seed (SU...) is expected",
            NkeyError::NotOfAUser => "it is not the seed of a user (SU...)",
            NkeyError::Checksum => "the seed of the nkey has a wrong checksum",
        })
    }
}

impl std::error::Error for NkeyError {}
