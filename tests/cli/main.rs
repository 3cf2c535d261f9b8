//! The tool from outside, as a user runs it. One binary, one module a theme.

#![allow(unreachable_pub, reason = "modules of one test binary")]

mod chain;
mod check;
mod cli;
mod cognitive;
mod conditions;
mod contributing;
mod corruptions;
mod crashes;
mod data;
mod diff;
mod end_to_end;
mod exchange;
mod faults_dynamics;
mod faults_images;
mod faults_lang;
mod faults_members;
mod faults_neural;
mod faults_noise;
mod faults_screens;
mod faults_stages;
mod faults_store;
mod faults_times;
mod golden;
mod harness;
mod history;
mod housekeeping;
mod idle;
mod leases;
mod manual;
mod many_files;
mod modules;
mod names;
mod network;
mod old_cache;
mod own_kind;
mod pipelines;
mod planning;
mod predictivity;
mod promises;
mod resume;
mod scheduling;
mod staged;
mod takes;
mod templates;
