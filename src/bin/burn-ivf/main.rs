//! `burn-ivf`: build, search, measure and tune indexes from the shell (docs/cli.md).
//!
//! This file owns the way of one call: arguments, the device, the command, the exit code
//! (0 well, 1 failed, 2 wrong usage).

mod args;
mod bench;
mod build;
mod config;
mod convert;
mod device;
mod eval;
mod index;
mod info;
mod measure;
mod output;
mod outputs;
mod plot;
mod progress;
mod search;
mod shell;
mod tune;

use args::{Cli, Command};
use burn_ivf::{Config, IvfBackend};
use clap::Parser;
use device::{Device, Job};
use output::{Done, Failure, Out};
use progress::Progress;
use std::{process::ExitCode, time::Instant};

/// What every command has at hand.
pub struct Context {
    /// The device's name, for reports.
    pub device: Device,
    /// stdout.
    pub out: Out,
    /// Bars on stderr.
    pub progress: Progress,
    /// When the call began.
    pub started: Instant,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = device::contained(|| start(cli));
    match outcome {
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn start(cli: Cli) -> Done {
    let mut out = Out::new(cli.json);
    match &cli.command {
        Command::Completions(args) => shell::completions(args, &mut out)?,
        Command::Man(args) => shell::man(args, &mut out)?,
        Command::Plot(args) => plot::from_records(args, &mut out)?,
        Command::Convert(args) if args.is_vectors() => {
            convert::vectors(args, &Progress::new(!cli.quiet), &mut out)?;
        }
        _ => {
            let device = device::choose(cli.device)?;
            output::warn(Config::process().warnings());
            let context = Context {
                device,
                out,
                progress: Progress::new(!cli.quiet),
                started: Instant::now(),
            };
            return device::run(device, Run(cli.command, context));
        }
    }
    out.finish()
}

/// A command and what it needs.
struct Run(Command, Context);

impl Job for Run {
    fn run<B: IvfBackend>(self, device: &B::Device) -> Done {
        let Self(command, mut context) = self;
        match &command {
            Command::Build(args) => build::run::<B>(args, &mut context, device)?,
            Command::Search(args) => search::run::<B>(args, &mut context, device)?,
            Command::Info(args) => info::run::<B>(args, &mut context, device)?,
            Command::Convert(args) => convert::index::<B>(args, &mut context, device)?,
            Command::Eval(args) => eval::run::<B>(args, &mut context, device)?,
            Command::Tune(args) => tune::run::<B>(args, &mut context, device)?,
            Command::Bench(args) => bench::run::<B>(args, &mut context, device)?,
            Command::Config => config::run::<B>(&mut context, device)?,
            Command::Completions(_) | Command::Man(_) | Command::Plot(_) => {}
        }
        context.out.finish()
    }
}
