#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::*;
use crate::Metrics;

#[test]
fn two_owners_of_one_name_do_not_hide_each_other() {
    let health = Health::new();
    let (one, two) = (health.check("table:d.t"), health.check("table:d.t"));
    one.down("lost");
    two.up();
    assert_eq!(health.checks()["table:d.t"], Status::Down { reason: "lost".into() });
    drop(two);
    assert_eq!(health.checks()["table:d.t"], Status::Down { reason: "lost".into() });
    drop(one);
    assert!(health.checks().is_empty());
}

/// A model: each owner's last report counts for as long as it lives. Every sequence of these steps agrees with it.
#[test]
fn a_check_is_what_its_owners_report() {
    for sequence in 0..4u32.pow(7) {
        let health = Health::new();
        let mut owners: Vec<Check> = Vec::new();
        let mut model: HashMap<u64, Option<String>> = HashMap::new();
        for step in 0..7 {
            let last = owners.len().saturating_sub(1);
            match sequence / 4u32.pow(step) % 4 {
                0 => {
                    owners.push(health.check("part"));
                    model.insert(owners.last().unwrap().inner.owner, Some("starting".into()));
                }
                1 if !owners.is_empty() => {
                    owners[0].up();
                    model.insert(owners[0].inner.owner, None);
                }
                2 if !owners.is_empty() => {
                    owners[last].down(format!("step {step}"));
                    model.insert(owners[last].inner.owner, Some(format!("step {step}")));
                }
                3 if !owners.is_empty() => {
                    model.remove(&owners.remove(0).inner.owner);
                }
                _ => {}
            }
            let is_up = model.values().all(Option::is_none);
            assert_eq!(health.is_ready(), is_up, "sequence {sequence}, step {step}");
            match health.checks().get("part") {
                None => assert!(model.is_empty()),
                Some(Status::Up) => assert!(is_up && !model.is_empty()),
                Some(Status::Down { reason }) => {
                    assert!(model.values().flatten().all(|known| reason.contains(known)), "{reason}");
                }
            }
        }
    }
}

#[test]
fn the_gauge_follows_the_checks() {
    let (metrics, health) = (Metrics::new(), Health::new());
    metrics.show(&health);
    let check = health.check("view:mesh.contracts");
    let shown = |value: i32| metrics.render().contains(&format!("mesh_up{{part=\"view:mesh.contracts\"}} {value}\n"));
    assert!(shown(0), "{}", metrics.render());
    check.up();
    assert!(shown(1), "{}", metrics.render());
    drop(check);
    assert!(!metrics.render().contains("mesh_up{"), "{}", metrics.render());
}
