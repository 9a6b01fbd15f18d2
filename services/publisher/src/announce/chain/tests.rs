use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

/// Links written as `id<parent`; the sequence number is the id. The last one is the head.
fn history(links: &[&str]) -> History {
    let links: Vec<Link> = links.iter().map(|text| link(text)).collect();
    History {
        head: links.last().map(|link| link.id),
        snapshots: links.into_iter().map(|link| (link.id, link)).collect(),
    }
}

fn link(text: &str) -> Link {
    let (id, parent) = text.split_once('<').map_or((text, None), |(id, parent)| (id, Some(parent)));
    let id = id.parse().unwrap();
    Link { id, parent: parent.map(|parent| parent.parse().unwrap()), sequence: id }
}

fn check(last: Option<i64>, links: &[&str], expected: &[Step]) {
    assert_eq!(steps(last.map(|id| Said { id, sequence: id }), &history(links)), expected);
}

use Step::{Gap, Rewound, Snapshot};

#[test]
fn nothing_new_says_nothing() {
    check(Some(2), &["1", "2<1"], &[]);
    check(None, &[], &[]);
}

#[test]
fn new_snapshots_are_said_in_order() {
    check(Some(1), &["1", "2<1", "3<2"], &[Snapshot(2), Snapshot(3)]);
}

#[test]
fn first_sight_says_the_whole_chain() {
    check(None, &["1", "2<1"], &[Snapshot(1), Snapshot(2)]);
}

#[test]
fn first_sight_of_a_cut_chain_begins_with_a_gap() {
    check(None, &["3<2", "4<3"], &[Gap { last: None, first_known: 3 }, Snapshot(3), Snapshot(4)]);
}

#[test]
fn expiry_of_what_was_said_is_no_gap() {
    check(Some(2), &["3<2", "4<3"], &[Snapshot(3), Snapshot(4)]);
}

#[test]
fn expiry_of_what_was_not_said_is_a_gap() {
    check(Some(1), &["3<2", "4<3"], &[Gap { last: Some(1), first_known: 3 }, Snapshot(3), Snapshot(4)]);
}

#[test]
fn a_tag_that_keeps_the_last_said_does_not_hide_the_gap() {
    check(Some(1), &["1", "3<2"], &[Gap { last: Some(1), first_known: 3 }, Snapshot(3)]);
}

#[test]
fn a_rollback_is_a_rewind() {
    let mut rolled_back = history(&["1", "2<1", "3<2"]);
    rolled_back.head = Some(1);
    let said = Some(Said { id: 3, sequence: 3 });
    assert_eq!(steps(said, &rolled_back), [Rewound { from: 3, to: Some(1) }]);
}

#[test]
fn what_follows_a_rollback_is_said_after_the_rewind() {
    check(Some(3), &["1", "2<1", "3<2", "4<2"], &[Rewound { from: 3, to: Some(2) }, Snapshot(4)]);
}

#[test]
fn a_rollback_whose_leavings_are_expired_is_still_a_rewind() {
    check(Some(3), &["1", "2<1", "4<2"], &[Rewound { from: 3, to: Some(2) }, Snapshot(4)]);
}

#[test]
fn a_main_that_begins_anew_is_a_rewind_to_nothing() {
    check(Some(2), &["1", "2<1", "3"], &[Rewound { from: 2, to: None }, Snapshot(3)]);
    check(Some(2), &[], &[Rewound { from: 2, to: None }]);
}

#[test]
fn a_circle_of_parents_ends() {
    check(None, &["1<2", "2<1"], &[Gap { last: None, first_known: 1 }, Snapshot(1), Snapshot(2)]);
}

#[derive(Debug, Clone)]
enum Deed {
    Commit,
    /// `main` back to its ancestor this many steps before.
    RollBack(usize),
    /// Forgets all ancestors of `main` but this many, and all that was rolled back.
    Expire(usize),
    Look,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => Just(Deed::Commit),
        1 => (1usize..4).prop_map(Deed::RollBack),
        1 => (1usize..6).prop_map(Deed::Expire),
        3 => Just(Deed::Look),
    ];
    proptest::collection::vec(deed, 0..60)
}

/// A table with nothing forgotten beside the table as its metadata shows it.
#[derive(Default)]
struct Model {
    truth: BTreeMap<i64, Link>,
    seen: History,
    /// Every snapshot that was ever expired.
    expired: BTreeSet<i64>,
}

impl Model {
    fn past(&self, from: Option<i64>) -> Vec<i64> {
        std::iter::successors(from, |id| self.truth[id].parent).collect()
    }

    fn does(&mut self, deed: &Deed) {
        match *deed {
            Deed::Commit => {
                let id = self.truth.len() as i64 + 1;
                let link = Link { id, parent: self.seen.head, sequence: id };
                self.truth.insert(id, link);
                self.seen.snapshots.insert(id, link);
                self.seen.head = Some(id);
            }
            Deed::RollBack(by) => {
                let there = self.past(self.seen.head).get(by).copied();
                self.seen.head = there.filter(|id| self.seen.snapshots.contains_key(id)).or(self.seen.head);
            }
            Deed::Expire(keep) => {
                let kept: BTreeSet<i64> = self.past(self.seen.head).into_iter().take(keep).collect();
                self.expired.extend(self.seen.snapshots.keys().filter(|id| !kept.contains(id)));
                self.seen.snapshots.retain(|id, _| kept.contains(id));
            }
            Deed::Look => {}
        }
    }
}

/// A subscriber that believes what it is told, and notes what it was told twice without a rewind between.
#[derive(Default)]
struct Subscriber {
    head: Option<i64>,
    told: BTreeSet<i64>,
    last: Option<Said>,
}

impl Subscriber {
    fn hears(&mut self, steps: &[Step], model: &Model) -> Result<(), TestCaseError> {
        let mut hole = false;
        for step in steps {
            match *step {
                Step::Snapshot(id) => {
                    let parent = model.truth[&id].parent;
                    prop_assert!(hole || parent == self.head, "{id} follows {parent:?}, not {:?}", self.head);
                    prop_assert!(self.told.insert(id), "{id} was said twice");
                    (self.head, hole) = (Some(id), false);
                }
                Step::Gap { last, first_known } => {
                    prop_assert_eq!(last, self.head);
                    self.told.extend(model.past(model.truth[&first_known].parent));
                    hole = true;
                }
                Step::Rewound { from, to } => {
                    prop_assert_eq!(Some(from), self.head);
                    let left: BTreeSet<i64> = model.past(to).into_iter().collect();
                    self.told.retain(|id| left.contains(id));
                    self.head = to;
                }
            }
        }
        self.last = self.head.map(|id| Said { id, sequence: model.truth[&id].sequence });
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens between looks: the subscriber ends at the head, in order, each snapshot once.
    #[test]
    fn the_subscriber_arrives_where_main_is(deeds in deeds()) {
        let (mut model, mut subscriber) = (Model::default(), Subscriber::default());
        for deed in deeds.iter().chain([&Deed::Look]) {
            model.does(deed);
            if matches!(deed, Deed::Look) {
                let said = steps(subscriber.last, &model.seen);
                subscriber.hears(&said, &model)?;
                prop_assert_eq!(subscriber.head, model.seen.head);
                prop_assert_eq!(steps(subscriber.last, &model.seen), vec![]);
            }
        }
    }

    /// A rewind is said exactly if `main` left the last announced; a gap exactly if something unsaid is gone.
    #[test]
    fn rewinds_and_gaps_are_true(deeds in deeds()) {
        let (mut model, mut subscriber) = (Model::default(), Subscriber::default());
        for deed in &deeds {
            model.does(deed);
            if !matches!(deed, Deed::Look) {
                continue;
            }
            let said = steps(subscriber.last, &model.seen);
            let past = model.past(model.seen.head);
            let left = subscriber.head.is_some_and(|head| !past.contains(&head));
            let lost = past.iter().any(|id| model.expired.contains(id) && !subscriber.told.contains(id));
            let rewound = said.iter().any(|step| matches!(step, Step::Rewound { .. }));
            let gap = said.iter().any(|step| matches!(step, Step::Gap { .. }));
            if model.expired.is_empty() {
                prop_assert_eq!((rewound, gap), (left, false));
            } else {
                // Where both happened and the evidence is expired, one of the two is said.
                prop_assert!(!rewound || left, "a rewind that was none: {:?}", said);
                prop_assert!(!gap || lost || left, "a gap that was none: {:?}", said);
                prop_assert!(rewound || gap || !(lost || left), "silence: {:?}", said);
            }
            subscriber.hears(&said, &model)?;
        }
    }
}
