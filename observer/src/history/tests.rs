//! The history as a whole, over real files.

mod clock;
mod faults;
mod fixture;
mod folding;
mod footprint;
mod forty_days;
mod kill;
mod restart;
mod who;
