//! The engine from outside, in one program: what is generic over numbers and devices is compiled once for all tests.

mod cognitive;
mod data;
mod data_folders;
mod data_originals;
mod data_packed;
mod data_sources;
mod data_support;
mod dynamics;
mod examples;
mod exchange;
mod gradients;
mod graph;
mod kernels;
mod memory;
mod mixed;
mod models;
mod noise;
mod optimisers;
mod phases;
mod predictivity;
mod predictivity_recovery;
mod record;
mod recordings;
mod resume;
mod support;
