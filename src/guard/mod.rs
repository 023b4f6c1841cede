//! guard
pub mod asm;
pub mod btf;
pub mod program;
