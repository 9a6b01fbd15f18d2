//! Randomness that can be replayed: the seed is printed, and `MESH_SEED` sets it.

use std::io::Write as _;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The seed of one test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// `MESH_SEED` if set, else a random one; printed on stderr either way, past the test harness's capture.
    pub fn from_env_or_random() -> anyhow::Result<Self> {
        let seed = match std::env::var("MESH_SEED") {
            Ok(text) if !text.is_empty() => {
                text.parse().with_context(|| format!("MESH_SEED={text} is not a number"))?
            }
            _ => rand::random(),
        };
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        writeln!(std::io::stderr().lock(), "MESH_SEED={seed}  # {test}")?;
        Ok(Self(seed))
    }

    /// The generator that this seed stands for: the same for the same seed.
    pub fn rng(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn a_seed_replays() {
        let numbers = |seed: Seed| -> [u64; 4] { seed.rng().random() };
        assert_eq!(numbers(Seed(7)), numbers(Seed(7)));
        assert_ne!(numbers(Seed(7)), numbers(Seed(8)));
    }
}
