//! Named points at which a debug build can be killed, so that tests can try every crash.
//!
//! In: `MESH_FAULT="<point>@<n>"`, a point being `<service>.<stage>.<moment>`. Out: at the n-th pass of that point
//! (from 1) the process sends itself SIGKILL: no drain, no destructor, as if the machine had failed.
//! Release builds contain nothing of this.

/// Passes a named point.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    if let Some(target) = armed::target() {
        target.pass(name);
    }
}

/// Passes a named point: nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    #[derive(Debug)]
    pub(super) struct Target {
        point: String,
        at: u64,
        passed: AtomicU64,
    }

    pub(super) fn target() -> Option<&'static Target> {
        static TARGET: OnceLock<Option<Target>> = OnceLock::new();
        TARGET.get_or_init(|| Target::parse(&std::env::var("MESH_FAULT").ok()?)).as_ref()
    }

    impl Target {
        /// `None` for what is not `<point>@<n>`: logged, since a fault test that kills nothing would prove nothing.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let parsed = text.rsplit_once('@').and_then(|(point, at)| Some((point, at.parse().ok()?)));
            let Some((point, at)) = parsed else {
                tracing::error!(MESH_FAULT = text, "not of the form <point>@<n>: no fault is armed");
                return None;
            };
            Some(Self { point: point.to_owned(), at, passed: AtomicU64::new(0) })
        }

        /// True at the n-th pass of the target's point.
        pub(super) fn hits(&self, name: &str) -> bool {
            name == self.point && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at
        }

        pub(super) fn pass(&self, name: &str) {
            if self.hits(name) && kill_process(getpid(), Signal::KILL).is_ok() {
                // The signal may reach another thread first; this one must not get past the point.
                loop {
                    std::thread::park();
                }
            }
        }
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_hits_at_the_nth_pass_of_its_own_point_only() {
            let target = Target::parse("ingest.commit.before_cas@2").unwrap();
            let passes = ["ingest.commit.before_cas", "other", "ingest.commit.before_cas", "ingest.commit.before_cas"];
            assert_eq!(passes.map(|name| target.hits(name)), [false, false, true, false]);
        }

        #[test]
        fn what_is_not_a_fault_arms_nothing() {
            assert!(Target::parse("ingest.commit").is_none());
            assert!(Target::parse("ingest.commit@often").is_none());
        }
    }
}
