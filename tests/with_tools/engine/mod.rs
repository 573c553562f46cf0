//! Servers that share a bucket of a real NATS server keep what was answered, whatever becomes of NATS, of the network
//! and of themselves. What the bucket holds is read by nats-py, which shares no code with this project.

#![allow(dead_code, reason = "each test uses a part of the helpers")]

pub mod acked;
pub mod bare;
pub mod bridge;
pub mod bucket;
pub mod cache;
pub mod counted;
pub mod crowd;
pub mod encrypted;
pub mod eye;
pub mod faults;
pub mod harness;
pub mod jwt;
pub mod leaving;
pub mod login;
pub mod members;
pub mod misfit;
pub mod moving;
pub mod nats;
pub mod newest;
pub mod permissions;
pub mod recorder;
pub mod room;
pub mod secrets;
pub mod settings;
pub mod slow;
pub mod wire;
