//! What the black-box tests share: real server processes on free ports in scratch folders, a small client, and
//! waiting for events with a deadline.
//!
//! `sluice-server` is not built by these tests: `scripts/test` builds it first, or `SLUICE_SERVER` names one.
//! redis-server and its tools are found on the search path; a test that needs one and does not find it says so and
//! passes, but fails where `CI=true`.

pub mod busy;
pub mod client;
pub mod crash;
pub mod data;
pub mod fuzz;
pub mod layers;
pub mod peers;
pub mod program;
pub mod server;
pub mod small_disk;
pub mod wait;

pub use busy::Busy;
pub use client::{Client, Reply, words};
pub use program::{Program, peers_here};
pub use server::{Server, Start};
pub use wait::{LIMIT, until};

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
pub struct Readme;
