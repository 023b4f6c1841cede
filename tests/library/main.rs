//! The library without the program: what rules become, held against the plain evaluation, against the real `nft`,
//! and against texts that were written down; and the parsers against a fuzzer's inputs; and
//! which of its rooms may use which, and that no two of its files need each other.

mod arrows;
mod circles;
mod differential;
mod fuzz;
mod golden;
mod meaning;
mod type_names;
