#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

/// A record as writers publish it: what one revision makes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    key: usize,
    revision: i64,
    is_value: bool,
}

/// The same numbers on every run, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Revisions 0..n of few keys, each a value or a tombstone, then late copies of some and any order of all: writers that
/// sleep, publish again, and overtake each other.
fn log(random: &mut Random) -> Vec<Written> {
    let mut log: Vec<Written> = (0..1 + random.below(8))
        .map(|revision| Written {
            key: random.below(2),
            revision: i64::try_from(revision).unwrap(),
            is_value: random.below(3) > 0,
        })
        .collect();
    for _ in 0..random.below(5) {
        let copy = log[random.below(log.len())];
        log.insert(random.below(log.len() + 1), copy);
    }
    for _ in 0..random.below(6) {
        let (one, two) = (random.below(log.len()), random.below(log.len()));
        log.swap(one, two);
    }
    log
}

/// The fold by highest revision, from scratch.
fn model(log: &[Written]) -> BTreeMap<usize, Written> {
    let mut counts: BTreeMap<usize, Written> = BTreeMap::new();
    for record in log {
        let known = counts.entry(record.key).or_insert(*record);
        if record.revision >= known.revision {
            *known = *record;
        }
    }
    counts
}

fn apply(state: &mut Compacted<i64>, record: Written) -> Effect<i64> {
    let key = record.key.to_string();
    match record.is_value {
        true => state.set(key, record.revision, record.revision),
        false => state.erase(key, Some(record.revision)),
    }
}

#[test]
fn any_order_of_records_equals_the_fold_by_highest_revision() {
    for seed in 1..=20_000 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let log = log(&mut random);
        let mut state = Compacted::default();
        for end in 0..log.len() {
            let counts_before = model(&log[..end]).get(&log[end].key).copied();
            let effect = apply(&mut state, log[end]);
            let counts = model(&log[..=end]);
            let held: BTreeMap<usize, Written> = ["0", "1"]
                .iter()
                .filter_map(|key| {
                    let slot = state.slot(key)?;
                    let is_value = matches!(slot, Slot::Value { .. });
                    let key = key.parse().unwrap();
                    Some((key, Written { key, revision: slot.revision(), is_value }))
                })
                .collect();
            assert_eq!(held, counts, "seed {seed}, after {:?}", &log[..=end]);
            assert_eq!(state.len(), counts.values().filter(|record| record.is_value).count(), "seed {seed}");
            assert_eq!(state.iter().count(), state.len(), "seed {seed}");
            let before = counts_before.filter(|record| record.is_value).map(|record| record.revision);
            let expected = match counts_before.is_some_and(|known| known.revision > log[end].revision) {
                true => Effect::Stale,
                false => Effect::Taken { before },
            };
            assert_eq!(effect, expected, "seed {seed}, after {:?}", &log[..=end]);
        }
    }
}

#[test]
fn a_tombstone_without_a_revision_erases_what_counts() {
    let mut state = Compacted::default();
    assert_eq!(state.erase("a".into(), None), Effect::Taken { before: None });
    assert_eq!(state.erased("a"), Some(-1));
    state.set("a".into(), 1, 5);
    assert_eq!(state.erase("a".into(), None), Effect::Taken { before: Some(1) });
    assert_eq!((state.erased("a"), state.is_empty()), (Some(5), true));
    assert_eq!(state.set("a".into(), 2, 4), Effect::Stale);
    assert_eq!(state.set("a".into(), 3, 6), Effect::Taken { before: None });
    assert_eq!(state.get("a"), Some(&3));
}
