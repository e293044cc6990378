//! Arguments, printing, exit codes; no logic.

mod args;
mod options;
mod pages;
mod progress;
mod run;
mod show;
mod signals;

use args::{Cli, Command};
use clap::Parser;
use onnx_unlearn::error::printable;
use std::io::Write;

/// Runs the command line and gives the exit code.
pub fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let code = error.exit_code() as u8;
            let _ = error.print();
            return code;
        }
    };
    match run::command(&cli.command) {
        Ok(()) => 0,
        Err(error) => {
            // Messages hold their causes already. A reader of standard error that has gone away is no panic.
            let message = printable(&error.source.to_string().replace('\n', " "));
            let _ = writeln!(std::io::stderr(), "error: {message}");
            error.kind as u8
        }
    }
}

/// Writes a result to standard output. A reader that has gone away is not an error.
fn print(text: &str) -> Result<(), std::io::Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| std::io::Error::new(e.kind(), format!("standard output cannot be written: {e}"))),
    }
}

impl Command {
    /// How much is said.
    fn output(&self) -> options::Output {
        match self {
            Command::Inspect { output, .. }
            | Command::Forget { output, .. }
            | Command::Importance { output, .. }
            | Command::Merge { output, .. }
            | Command::Dampen { output, .. }
            | Command::Validate { output, .. }
            | Command::Diff { output, .. }
            | Command::Grad { output, .. }
            | Command::Sweep { output, .. }
            | Command::Runtime { output, .. } => *output,
            Command::SecondRuntime { .. } => options::Output::default(),
        }
    }
}
