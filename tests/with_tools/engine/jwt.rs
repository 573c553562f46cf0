//! Claim: a member proves who it is by a JWT that an account of NATS has signed, says once what is wrong with one that is
//! refused or has expired, and goes on by the file that an operator puts in its place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::login::{expect_error, hides, member, plan};
use super::members::{tell, wait_until_in_sync};
use super::nats::Nats;
use crate::common::client::Next;
use crate::common::needs::Outcome;

/// A key pair of NATS, written as its documentation says.
pub struct Key {
    prefix: u8,
    seed: [u8; 32],
}

/// Five bits each, in base32: `O`, `A` and `U`.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;

impl Key {
    fn new(prefix: u8, number: u8) -> Key {
        Key { prefix, seed: [number; 32] }
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("32 bytes")
    }

    fn public(&self) -> String {
        with_checksum([&[self.prefix], self.pair().public_key().as_ref()].concat())
    }

    fn seed(&self) -> String {
        let prefixes = [18 << 3 | self.prefix >> 5, (self.prefix & 31) << 3];
        with_checksum([&prefixes[..], &self.seed].concat())
    }

    /// A JWT by which this key says something of another one.
    fn sign(&self, subject: &Key, expires: Option<u64>, claims: Value) -> String {
        let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let mut body = json!({
            "jti": "ONE", "iat": now(), "iss": self.public(), "name": "herd", "sub": subject.public(), "nats": claims
        });
        if let Some(expires) = expires {
            body["exp"] = json!(expires);
        }
        let signed = format!("{}.{}", text(&header), text(&body));
        let signature = BASE64URL_NOPAD.encode(self.pair().sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn with_checksum(mut bytes: Vec<u8>) -> String {
    let sum = bytes.iter().fold(0u16, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 }
        })
    });
    bytes.extend(sum.to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}

/// An operator, an account with JetStream, and a user of it.
pub struct Realm {
    operator: Key,
    system: Key,
    account: Key,
    user: Key,
}

impl Realm {
    pub fn new() -> Realm {
        Realm {
            operator: Key::new(OPERATOR, 1),
            system: Key::new(ACCOUNT, 2),
            account: Key::new(ACCOUNT, 3),
            user: Key::new(USER, 4),
        }
    }

    /// A server that trusts the operator.
    pub fn start(&self) -> Result<Nats, crate::common::needs::Missing> {
        let operator = json!({ "type": "operator", "version": 2 });
        let operator = self.operator.sign(&self.operator, None, operator);
        let account = |key: &Key, storage: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage
            });
            let claims = json!({ "limits": limits, "type": "account", "version": 2 });
            format!("{}: {}", key.public(), self.operator.sign(key, None, claims))
        };
        let more = format!(
            "operator: {operator}\nresolver: MEMORY\nsystem_account: {}\nresolver_preload: {{\n  {}\n  {}\n}}\n",
            self.system.public(),
            account(&self.system, 0),
            account(&self.account, -1)
        );
        Nats::start(&plan(&more))
    }

    /// The user's JWT.
    pub fn jwt(&self, expires: Option<u64>) -> String {
        let claims = json!({
            "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2
        });
        self.account.sign(&self.user, expires, claims)
    }

    /// The user's secret.
    pub fn seed(&self) -> String {
        self.user.seed()
    }

    /// What `nsc` writes for a user.
    pub fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

const BY_CREDS: &str = "timeout = \"5m\"\ncreds_file = \"{secret}\"";
const REMEDY: &str = "check that the JWT in creds_file of [engine] is not expired or revoked";

pub fn a_jwt_that_expires_is_one_error_and_the_next_one_is_read_without_a_restart() -> Outcome {
    let realm = Realm::new();
    let nats = realm.start()?;
    let jwt = realm.jwt(Some(now() + 8));
    let (_setup, server) = member(&nats, BY_CREDS, &Realm::creds(&jwt, &realm.seed()));
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    // The server ends the connection when the JWT expires, and says why.
    expect_error(&server, nats.nodes[0].address, "refused", REMEDY);
    let said = server.log();
    assert!(said.contains("Authentication Expired"), "{said}");
    let mut client = server.client();
    client.send("IAMAT kiwi +1.0-2.0 2\n");
    assert_eq!(client.next(Duration::from_millis(500)), Next::Silence);
    let next = realm.jwt(Some(now() + 3_600));
    nats.file("secret", &Realm::creds(&next, &realm.seed()));
    assert_eq!(client.line(), "AT AT kiwi +1.0-2.0 2");
    wait_until_in_sync(&server, 2);
    hides(&server, &[&jwt, &next, &realm.seed()]);
    Ok(())
}

pub fn a_jwt_of_an_unknown_account_or_of_another_key_is_one_error() -> Outcome {
    let realm = Realm::new();
    let nats = realm.start()?;
    let other = Realm { account: Key::new(ACCOUNT, 5), ..Realm::new() };
    let other_key = Key::new(USER, 6).seed();
    let expired = realm.jwt(Some(now() - 60));
    for (jwt, seed) in
        [(other.jwt(None), realm.seed()), (realm.jwt(None), other_key), (expired, realm.seed())]
    {
        let (_setup, server) = member(&nats, BY_CREDS, &Realm::creds(&jwt, &seed));
        expect_error(&server, nats.nodes[0].address, "refused", REMEDY);
        hides(&server, &[&jwt, &seed]);
    }
    Ok(())
}
