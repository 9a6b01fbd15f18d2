//! The group state machine as its members see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};

use super::super::member::{Claim, Join, JoinReply, Protocol, Sync, SyncReply};
use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group and a clock that only the test moves.
struct Table {
    group: Group,
    now: Instant,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names.iter().map(|name| Protocol { name: text(name), metadata: Bytes::from(format!("{name}!")) }).collect()
}

fn join_request(member_id: &StrBytes, instance: Option<&str>, names: &[&str]) -> Join {
    Join {
        member_id: member_id.clone(),
        instance_id: instance.map(text),
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: text("consumer"),
        protocols: protocols(names),
        wants_id_first: false,
    }
}

fn now<T>(receiver: &mut Receiver<T>) -> T {
    receiver.try_recv().expect("an answer")
}

fn waits<T: std::fmt::Debug>(receiver: &mut Receiver<T>) -> bool {
    matches!(receiver.try_recv(), Err(TryRecvError::Empty))
}

impl Table {
    fn new() -> Self {
        Self { group: Group::new(), now: Instant::now() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.expire(self.now);
    }

    fn join(&mut self, member_id: &StrBytes, names: &[&str]) -> Receiver<JoinReply> {
        self.send(join_request(member_id, None, names))
    }

    fn send(&mut self, join: Join) -> Receiver<JoinReply> {
        let (reply, answer) = channel();
        self.group.join(join, self.now, reply);
        answer
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&StrBytes, &str)]) -> Receiver<SyncReply> {
        let (reply, answer) = channel();
        let own = |(id, assignment): &(&StrBytes, &str)| ((*id).clone(), Bytes::from((*assignment).to_owned()));
        let sync = Sync {
            who: claim(joined),
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(own).collect(),
        };
        self.group.sync(sync, self.now, reply);
        answer
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), ResponseError> {
        self.group.heartbeat(&claim(joined), self.now)
    }

    /// Two members, stable; the leader first.
    fn pair(&mut self) -> (Joined, Joined) {
        let (mut a, mut b) = (self.join(&text(""), &["range"]), self.join(&text(""), &["range"]));
        assert!(waits(&mut a) && waits(&mut b), "the first generation waits for more members");
        self.pass(FIRST_REBALANCE_DELAY);
        let (a, b) = (now(&mut a).unwrap(), now(&mut b).unwrap());
        let (leader, follower) = if a.leader == a.member_id { (a, b) } else { (b, a) };
        let mut of_follower = self.sync(&follower, &[]);
        assert!(waits(&mut of_follower), "a follower waits for the leader");
        let assignments = [(&leader.member_id, "0,1"), (&follower.member_id, "2,3")];
        let of_leader = now(&mut self.sync(&leader, &assignments)).unwrap();
        assert_eq!(
            (&of_leader.assignment[..], &now(&mut of_follower).unwrap().assignment[..]),
            (&b"0,1"[..], &b"2,3"[..])
        );
        assert_eq!(self.group.phase(), Phase::Stable);
        (leader, follower)
    }
}

fn claim(joined: &Joined) -> Claim {
    Claim { member_id: joined.member_id.clone(), instance_id: None, generation: joined.generation }
}

#[test]
fn two_members_share_one_generation_and_only_the_leader_sees_both() {
    let mut table = Table::new();
    let (leader, follower) = table.pair();
    assert_eq!((leader.generation, follower.generation), (1, 1));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(leader.members[0].metadata, "range!");
    assert_eq!(table.heartbeat(&leader), Ok(()));
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut table = Table::new();
    let (leader, follower) = table.pair();
    let mut third = table.join(&text(""), &["range"]);
    assert_eq!(table.heartbeat(&leader), Err(ResponseError::RebalanceInProgress));
    let mut again = (table.join(&leader.member_id, &["range"]), table.join(&follower.member_id, &["range"]));
    let (leader_again, third) = (now(&mut again.0).unwrap(), now(&mut third).unwrap());
    assert_eq!((leader_again.generation, third.generation), (2, 2));
    assert_eq!((leader_again.leader.clone(), leader_again.members.len()), (leader.member_id.clone(), 3));
    assert_eq!(table.heartbeat(&leader), Err(ResponseError::IllegalGeneration));
}

#[test]
fn a_silent_member_is_evicted_and_its_partitions_can_be_given_away() {
    let mut table = Table::new();
    let (leader, follower) = table.pair();
    table.pass(SESSION / 2);
    table.heartbeat(&leader).unwrap();
    assert!(table.group.next_deadline().unwrap() <= table.now + SESSION / 2);
    table.pass(SESSION / 2);
    assert_eq!(table.heartbeat(&leader), Err(ResponseError::RebalanceInProgress));
    assert_eq!(table.heartbeat(&follower), Err(ResponseError::UnknownMemberId));
    let alone = now(&mut table.join(&leader.member_id, &["range"])).unwrap();
    assert_eq!((alone.generation, alone.members.len()), (2, 1));
}

#[test]
fn who_does_not_rejoin_in_time_is_left_behind() {
    let mut table = Table::new();
    let (leader, follower) = table.pair();
    let mut third = table.join(&text(""), &["range"]);
    let mut again = table.join(&leader.member_id, &["range"]);
    for _ in 0..11 {
        table.pass(SESSION / 2);
        assert_eq!(table.heartbeat(&follower), Err(ResponseError::RebalanceInProgress));
        assert!(waits(&mut third) && waits(&mut again), "the follower may still come");
    }
    table.pass(SESSION / 2);
    assert_eq!(now(&mut again).unwrap().members.len(), 2);
    assert_eq!(table.heartbeat(&follower), Err(ResponseError::UnknownMemberId));
}

#[test]
fn leaving_rebalances_at_once_and_the_last_to_leave_empties_the_group() {
    let mut table = Table::new();
    let (leader, follower) = table.pair();
    table.group.leave(&leader.member_id, None, table.now).unwrap();
    let alone = now(&mut table.join(&follower.member_id, &["range"])).unwrap();
    assert_eq!(alone.leader, follower.member_id);
    table.group.leave(&follower.member_id, None, table.now).unwrap();
    assert_eq!((table.group.phase(), table.group.next_deadline()), (Phase::Empty, None));
    assert_eq!(table.group.leave(&leader.member_id, None, table.now), Err(ResponseError::UnknownMemberId));
    assert!(table.group.retire());
    assert_eq!(now(&mut table.join(&text(""), &["range"])).unwrap_err().error, ResponseError::CoordinatorNotAvailable);
}

#[test]
fn a_new_client_gets_an_id_before_it_is_a_member() {
    let mut table = Table::new();
    let first = Join { wants_id_first: true, ..join_request(&text(""), None, &["range"]) };
    let refused = now(&mut table.send(first)).unwrap_err();
    assert_eq!(refused.error, ResponseError::MemberIdRequired);
    assert_eq!(table.group.members().count(), 0);
    let mut joined = table.join(&refused.member_id, &["range"]);
    table.pass(FIRST_REBALANCE_DELAY);
    assert_eq!(now(&mut joined).unwrap().member_id, refused.member_id);
}

#[test]
fn an_id_that_is_not_used_expires() {
    let mut table = Table::new();
    let first = Join { wants_id_first: true, ..join_request(&text(""), None, &["range"]) };
    let refused = now(&mut table.send(first)).unwrap_err();
    table.pass(SESSION);
    let late = now(&mut table.join(&refused.member_id, &["range"])).unwrap_err();
    assert_eq!((late.error, table.group.next_deadline()), (ResponseError::UnknownMemberId, None));
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let mut table = Table::new();
    let mut joins = [
        table.join(&text(""), &["sticky", "range"]),
        table.join(&text(""), &["range", "sticky"]),
        table.join(&text(""), &["roundrobin", "range", "sticky"]),
    ];
    let mut stranger = table.join(&text(""), &["own"]);
    assert_eq!(now(&mut stranger).unwrap_err().error, ResponseError::InconsistentGroupProtocol);
    table.pass(FIRST_REBALANCE_DELAY);
    for join in &mut joins {
        assert_eq!(now(join).unwrap().protocol, Some(text("range")));
    }
}

#[test]
fn a_restarted_static_member_takes_its_place_without_a_rebalance_and_fences_its_former_self() {
    let mut table = Table::new();
    let mut joined = table.send(join_request(&text(""), Some("i"), &["range"]));
    table.pass(FIRST_REBALANCE_DELAY);
    let former = now(&mut joined).unwrap();
    now(&mut table.sync(&former, &[(&former.member_id, "0-9")])).unwrap();
    let again = now(&mut table.send(join_request(&text(""), Some("i"), &["range"]))).unwrap();
    assert_eq!((again.generation, table.group.phase()), (1, Phase::Stable));
    assert_ne!(again.member_id, former.member_id);
    assert_ne!(again.leader, again.member_id, "it must not assign again");
    assert_eq!(now(&mut table.sync(&again, &[])).unwrap().assignment, "0-9");
    let old = Claim { instance_id: Some(text("i")), ..claim(&former) };
    assert_eq!(table.group.heartbeat(&old, table.now), Err(ResponseError::FencedInstanceId));
}

#[test]
fn a_leader_that_never_assigns_is_evicted_with_all_who_did_not_ask() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(&text(""), &["range"]), table.join(&text(""), &["range"]));
    table.pass(FIRST_REBALANCE_DELAY);
    let (a, b) = (now(&mut a).unwrap(), now(&mut b).unwrap());
    let (leader, follower) = if a.leader == a.member_id { (a, b) } else { (b, a) };
    let mut waiting = table.sync(&follower, &[]);
    for _ in 0..6 {
        table.pass(REBALANCE / 6);
        let _ = table.heartbeat(&leader);
    }
    assert_eq!(now(&mut waiting).unwrap_err(), ResponseError::RebalanceInProgress);
    assert_eq!(table.heartbeat(&leader), Err(ResponseError::UnknownMemberId));
}

#[test]
fn commits_are_for_members_of_the_generation_or_for_anybody_without_members() {
    let mut table = Table::new();
    let stranger = Claim { member_id: text(""), instance_id: None, generation: -1 };
    assert_eq!(table.group.may_commit(&stranger, table.now), Ok(()));
    let (leader, _) = table.pair();
    assert_eq!(table.group.may_commit(&stranger, table.now), Err(ResponseError::UnknownMemberId));
    assert_eq!(table.group.may_commit(&claim(&leader), table.now), Ok(()));
    let stale = Claim { generation: 0, ..claim(&leader) };
    assert_eq!(table.group.may_commit(&stale, table.now), Err(ResponseError::IllegalGeneration));
}
