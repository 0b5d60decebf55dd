//! What a shell wants to know of the command line: completions and manual pages.

use crate::{
    args::{Cli, Completions, Man},
    output::{Done, Failure, Out},
};
use clap::CommandFactory;
use serde_json::json;

/// Prints a completion script.
pub fn completions(args: &Completions, out: &mut Out) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "burn-ivf", &mut script);
    out.raw(&script)
}

/// Prints the manual page, or writes those of all commands.
pub fn man(args: &Man, out: &mut Out) -> Done {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return out.raw(&page);
    };
    let at = |error| Failure::Failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(at)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(at)?;
    let value = json!({ "folder": folder });
    out.report(&value, format!("pages written to {}", folder.display()))
}
