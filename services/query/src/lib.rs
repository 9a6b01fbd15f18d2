//! placeholder while stages land
pub mod barrier;
