//! Groups of addresses: how much of a listener one of them may take.

/// What one group of addresses ([`AddressGroup`](crate::addresses::AddressGroup)) may take of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRules {
    /// When the listener is full, a connection of the group that has the most makes room for one of a group
    /// that has fewer, however short it was silent.
    pub fair_share: bool,
    /// How many connections of one group may be open at once; 0 if there is no such limit. Addresses of
    /// [`Limits::exempt`](super::Limits) are free of it.
    pub per_group: usize,
}
