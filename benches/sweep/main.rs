//! `sweep`: the project's benchmark harness, one binary with a few sub-commands.
//!
//! Owns: the order of things (data, index, proof of the answers, clock, record). Must not know:
//! anything of the crate that a user could not call, so that what it measures is what a user pays.
//! Called by: `cargo bench --bench sweep --features <backend> -- <sub-command> ...`, and by drivers
//! that start the built binary themselves (`serve`). See `benches/README.md`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs
)]

mod args;
mod backends;
mod cost;
mod data;
mod env;
mod files;
mod flat;
mod gpu;
mod grid;
mod json;
mod oracle;
mod profile;
mod record;
mod roofline;
mod run;
mod serve;
mod timing;
mod workload;

use args::{Cli, Command};
use clap::Parser;

/// Every fallible step of the harness: an error ends the sub-command with its text.
pub type Res<T> = Result<T, Box<dyn std::error::Error>>;

fn main() {
    env_logger::init();
    // `cargo bench` adds `--bench` to whatever the user wrote; it carries no information here.
    let words = std::env::args().filter(|word| word != "--bench");
    let cli = Cli::parse_from(words);
    if let Err(error) = dispatch(cli) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn dispatch(cli: Cli) -> Res<()> {
    match cli.command {
        Some(Command::Run(args)) => run::start(args),
        Some(Command::Flat(args)) => flat::start(args),
        Some(Command::Grid(args)) => grid::start(args),
        Some(Command::Serve(args)) => serve::start(args),
        Some(Command::Profile(args)) => profile::start(args),
        Some(Command::Data(args)) => data::export(&args),
        Some(Command::Env) => env::print(),
        Some(Command::Roofline) => roofline::print(),
        None => smoke(),
    }
}

/// Without a sub-command (a plain `cargo bench`): a small workload whose answers are proven, so
/// that the harness itself is exercised, and a hint at the real thing.
fn smoke() -> Res<()> {
    eprintln!("no sub-command: a small proven run; `-- --help` lists the real ones");
    let words = "sweep run --nb 4096 --d 32 --nlist 16 --nprobe 4 --k 10 --train-n 2048 --nq 1,32 \
                 --gt-nq 64 --repeat 3 --mode auto,csr,matrix --data clustered";
    dispatch(Cli::parse_from(words.split_whitespace()))
}
