//! Where JSON lines go: appended to a file, or stdout.

use crate::Res;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

pub struct Lines {
    file: Option<File>,
}

impl Lines {
    pub fn open(path: Option<&Path>) -> Res<Self> {
        let append = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = path.map(append).transpose()?;
        Ok(Self { file })
    }

    pub fn write(&mut self, row: &impl Serialize) -> Res<()> {
        let line = serde_json::to_string(row)?;
        match &mut self.file {
            Some(file) => writeln!(file, "{line}")?,
            None => {
                let mut stdout = std::io::stdout().lock();
                writeln!(stdout, "{line}")?;
                stdout.flush()?;
            }
        }
        Ok(())
    }
}

/// Rounds for print: three digits after the point are below the clock's own noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
