//! The library without the program: what rules become, held against the plain evaluation, against the real `nft`,
//! and against texts that were written down; and the parsers against a fuzzer's inputs; and
//! which of its rooms may use which.

mod arrows;
mod differential;
mod fuzz;
mod golden;
mod meaning;
