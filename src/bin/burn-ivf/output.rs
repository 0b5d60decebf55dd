//! What goes to stdout and stderr, and how a call can fail. A reader that goes away (`| head`) is no
//! failure.

use burn_ivf::Error;
use serde_json::Value;
use std::{
    fmt::{self, Display},
    io::{self, BufWriter, Stdout, Write},
    path::Path,
};

/// The outcome of a step.
pub type Done<T = ()> = Result<T, Failure>;

/// Why a call ended early.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be: exit code 2.
    Usage(String),
    /// It was tried and did not work: exit code 1.
    Failed(String),
    /// Nobody reads stdout any more: exit code 0.
    Pipe,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Pipe => 0,
        }
    }

    /// A failure about a file; its name comes first where the error does not hold it.
    pub fn at(path: &Path) -> impl Fn(Error) -> Self + '_ {
        move |error| {
            let (path, text) = (path.display().to_string(), error.to_string());
            Self::Failed(if text.contains(&path) {
                text
            } else {
                format!("{path}: {text}")
            })
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::Pipe => f.write_str("stdout was closed"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Pipe
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// A usage failure.
pub fn usage<T>(text: impl Into<String>) -> Done<T> {
    Err(Failure::Usage(text.into()))
}

/// A plain failure.
pub fn fail<T>(text: impl Into<String>) -> Done<T> {
    Err(Failure::Failed(text.into()))
}

/// Says on stderr what went wrong.
pub fn complain(failure: &Failure) {
    // Where stderr is closed too nothing is left to say it to.
    let _ = writeln!(io::stderr(), "error: {failure}");
}

/// Says on stderr what was not used.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// stdout: text for people, or one JSON value per line.
pub struct Out {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Out {
    /// Text, or JSON.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            out: BufWriter::new(io::stdout()),
        }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line as it stands.
    pub fn line(&mut self, text: impl Display) -> Done {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Done {
        Ok(self.out.write_all(bytes)?)
    }

    /// One value: its JSON on one line, or the text.
    pub fn report(&mut self, value: &Value, text: impl Display) -> Done {
        if self.json {
            self.line(value)
        } else {
            self.line(text)
        }
    }

    /// Hands everything on.
    pub fn finish(&mut self) -> Done {
        Ok(self.out.flush()?)
    }
}

/// A number with a thousands separator.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that leaves a whole number before the point.
pub fn bytes(n: usize) -> String {
    let (mut value, mut unit) = (n as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" {
        format!("{n} B")
    } else {
        format!("{value:.1} {unit}")
    }
}
