//! Addresses as values: groups of addresses that count as one, and prefixes.
//!
//! A limit for each address is useless where one machine has many: a host with IPv6 usually has a whole /64. So what
//! counts is the group: an IPv4 address, or an IPv6 /64.

mod table;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use table::{GroupBounds, GroupTable};

/// Addresses that count as one. An IPv4 address within IPv6 (`::ffff:10.0.0.1`) is in the group of the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressGroup {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// The IPv6 addresses that begin with these 64 bits.
    V6(u64),
    /// All groups for which a bounded list has no place of their own.
    Others,
}

impl AddressGroup {
    /// The group of an address.
    pub fn of(address: IpAddr) -> AddressGroup {
        match address.to_canonical() {
            IpAddr::V4(address) => AddressGroup::V4(address),
            IpAddr::V6(address) => AddressGroup::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The addresses that begin with the same bits, written `10.0.0.0/8`; an address alone is a prefix of its full length.
/// The bits behind the length are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// It is neither an address nor an address and a length.
    NoPrefix,
    /// Bits of the address are set behind the length: probably the length is wrong. The prefix without them.
    HostBits(Prefix),
    /// An IPv4 address is written as IPv6. The same prefix in IPv4.
    Mapped(Prefix),
}

impl Prefix {
    /// The prefix of `length` bits that an address begins with; all of the address if it has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Prefix {
        let (bits, all) = bits_of(address);
        let length = length.min(all);
        let kept = bits & mask(length, all);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(kept as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(kept)),
        };
        Prefix { address, length }
    }

    /// Whether it holds an address. IPv4 addresses within IPv6 count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let (bits, all) = bits_of(self.address);
        let (other, other_all) = bits_of(address);
        all == other_all && (bits ^ other) & mask(self.length, all) == 0
    }
}

/// The bits of an address, and their number.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The first `length` of `all` bits.
fn mask(length: u8, all: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(all - length)).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::NoPrefix)?;
        let (_, all) = bits_of(address);
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let length = match length {
            None => all,
            Some(length) => {
                let length = Some(length).filter(is_number).and_then(|length| length.parse().ok());
                length.filter(|length| *length <= all).ok_or(PrefixError::NoPrefix)?
            }
        };
        let prefix = Prefix::new(address, length);
        if let IpAddr::V6(within) = address
            && let Some(mapped) = within.to_ipv4_mapped()
            && let Some(length) = length.checked_sub(96)
        {
            return Err(PrefixError::Mapped(Prefix::new(mapped.into(), length)));
        }
        if prefix.address != address {
            return Err(PrefixError::HostBits(prefix));
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_group_is_an_ipv4_address_or_an_ipv6_64() {
        let of = |text| AddressGroup::of(address(text));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_ne!(of("::1"), of("0.0.0.1"), "an IPv6 address of small bits is no IPv4 address");
    }

    #[test]
    fn a_prefix_contains_exactly_the_addresses_that_begin_with_it() {
        for (prefix, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("10.1.2.4/30", "10.1.2.7", "10.1.2.8"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::1/128", "::1", "::2"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:126.0.0.1"),
        ] {
            let parsed: Prefix = prefix.parse().expect(prefix);
            assert!(parsed.contains(address(inside)), "{inside} is in {prefix}");
            assert!(!parsed.contains(address(outside)), "{outside} is not in {prefix}");
        }
    }

    #[test]
    fn a_prefix_is_written_as_it_is_read_and_mistakes_have_a_remedy() {
        for text in ["127.0.0.0/8", "::1/128", "0.0.0.0/0", "2001:db8::/32"] {
            assert_eq!(text.parse::<Prefix>().expect(text).to_string(), text);
        }
        assert_eq!("10.0.0.1".parse::<Prefix>().expect("an address").to_string(), "10.0.0.1/32");
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "a/8", "/8"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::NoPrefix), "{text}");
        }
        let of = |text: &str| text.parse::<Prefix>().expect(text);
        let host_bits = "10.1.2.3/8".parse::<Prefix>();
        assert_eq!(host_bits, Err(PrefixError::HostBits(of("10.0.0.0/8"))));
        let mapped = "::ffff:10.0.0.0/104".parse::<Prefix>();
        assert_eq!(mapped, Err(PrefixError::Mapped(of("10.0.0.0/8"))));
    }
}
