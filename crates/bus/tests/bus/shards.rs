use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_bus::{ShardOptions, Shards};
use mesh_testkit::{eventually, unique};

use crate::{Fixture, PATIENCE, fixture};

const SHARDS: i32 = 8;

fn join(fixture: &Fixture, group: &str) -> anyhow::Result<Arc<Shards>> {
    let options = ShardOptions { topic: fixture.topic.clone(), group: group.to_owned(), ..ShardOptions::default() };
    Ok(Arc::new(fixture.bus.shards(options)?))
}

/// Work that releases at once what is revoked.
fn obedient(shards: &Arc<Shards>) {
    let (shards, mut owned) = (Arc::downgrade(shards), shards.owned());
    tokio::spawn(async move {
        while owned.changed().await.is_ok() {
            let generation = owned.borrow_and_update().generation;
            if let Some(shards) = shards.upgrade() {
                shards.released(generation);
            }
        }
    });
}

fn held(shards: &Shards) -> BTreeSet<i32> {
    shards.owned().borrow().shards.clone()
}

fn all() -> BTreeSet<i32> {
    (0..SHARDS).collect()
}

async fn owns(shards: &Shards, what: &str, condition: impl Fn(&BTreeSet<i32>) -> bool) -> anyhow::Result<()> {
    eventually(what, PATIENCE, || async { condition(&held(shards)).then_some(()) }).await
}

#[tokio::test]
async fn two_members_share_all_shards_and_one_gets_all_when_the_other_leaves() -> anyhow::Result<()> {
    let fixture = fixture("shards", SHARDS, &[]).await?;
    let group = unique("group");
    let one = join(&fixture, &group)?;
    obedient(&one);
    owns(&one, "one has all", |held| *held == all()).await?;

    let other = join(&fixture, &group)?;
    obedient(&other);
    owns(&other, "the other has half", |held| held.len() == 4).await?;
    owns(&one, "one keeps half", |held| held.len() == 4).await?;
    assert_eq!(&held(&one) | &held(&other), all());

    let other = Arc::into_inner(other).unwrap();
    other.leave().await;
    owns(&one, "one has all again", |held| *held == all()).await?;
    Ok(())
}

#[tokio::test]
async fn a_revoked_shard_goes_to_another_only_after_the_work_let_go() -> anyhow::Result<()> {
    let fixture = fixture("release", SHARDS, &[]).await?;
    let group = unique("group");
    let one = join(&fixture, &group)?;
    owns(&one, "one has all", |held| *held == all()).await?;

    let other = join(&fixture, &group)?;
    obedient(&other);
    owns(&one, "one member's loss", |held| held.len() == 4).await?;
    let kept = held(&one);
    let released = AtomicBool::new(false);
    let (work, theirs) = tokio::join!(
        async {
            // Long enough that a bus which does not wait would hand the shards on.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            released.store(true, Ordering::SeqCst);
            one.released(one.owned().borrow().generation);
        },
        owns(&other, "the other has the rest", |held| {
            assert!(released.load(Ordering::SeqCst) || held.is_empty(), "handed on before the work let go");
            held.len() == 4
        }),
    );
    let ((), ()) = (work, theirs?);
    assert!(held(&other).is_disjoint(&kept));
    Ok(())
}
