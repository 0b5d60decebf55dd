//! `ivf_demo`: train an `IndexIvfFlat`, fill it, search it and say how good and how fast it was.
//!
//! ```text
//! cargo run --release --example ivf_demo -- --text        # real text: WordNet glosses
//! cargo run --release --example ivf_demo -- --verify      # random vectors, checked against IndexFlat
//! cargo run --release --example ivf_demo -- --help
//! ```
//!
//! This file owns the order of things and the exit code: 0 when everything asked for held, 1 when
//! `--verify` found an answer that is not good enough, 2 when the demo could not run (the reason
//! is on stderr). `args` reads the command line, `device` picks a backend, `data` and `sample`
//! make the vectors, `run` drives the library, `verify` judges, `report` prints.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

mod args;
mod data;
mod device;
mod progress;
mod report;
mod run;
mod sample;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Settings};
use crate::data::Dataset;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::Job;

/// What every step of the demo returns: the text of the error is shown to the user as it is.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args = Args::parse();
    // The runtime's device thread warns of a failed opening, which the demo reports itself.
    let filter = env_logger::Env::default().default_filter_or("warn,cubecl_common=error");
    env_logger::Builder::from_env(filter).init();
    match demo(&args) {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("verify failed: {}", report.failures().join("; "));
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what the command line asks for and prints the outcome.
fn demo(args: &Args) -> Result<Report> {
    args.check()?;
    let choice = device::choose(args.device.as_deref())?;
    let show = |text: &str| {
        if !args.json {
            out(text);
        }
    };
    show(&format!("backend  {}: {}\n", choice.entry.name, choice.why));

    let progress = Progress::new(!args.json);
    let data = if args.text {
        Dataset::sample(args.data.as_deref(), &progress)?
    } else {
        Dataset::synthetic(args.nb(), args.nq(), args.d(), args.seed, &progress)?
    };
    let settings = Settings::resolve(args, data.nb(), data.d)?;
    show(&report::opening(&data, &settings));

    let job = Job {
        settings: &settings,
        data: &data,
        progress: &progress,
        choice: &choice,
    };
    let report = (choice.entry.run)(&job)?;
    if args.json {
        out(&(serde_json::to_string(&report)? + "\n"));
    } else {
        out(&report.render());
    }
    Ok(report)
}

/// Writes to stdout; a reader that has gone away (`| head`) is not an error.
fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
