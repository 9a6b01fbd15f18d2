//! Consumer groups: who is a member, who reads what, how far a group has read.
//!
//! In: the requests of a group's members, and the passing of time. Out: generations, assignments, committed offsets.
//! Never do two members own a partition in one generation; a member that is silent longer than its
//! session is evicted; a committed offset survives a restart. Membership does not: members join again.

pub(crate) mod coordinator;
pub(crate) mod member;
pub(crate) mod offsets;
pub(crate) mod state;
