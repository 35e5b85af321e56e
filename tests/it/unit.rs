//! Parts of the library that need no gate: parsers, limits and shares.
#![allow(non_snake_case, reason = "a test is named `feature__condition`")]

mod address;
mod budgets;
mod chain;
mod config;
mod hashtag;
mod host;
mod id;
mod locale;
mod plan;
mod shares;
mod usage;
