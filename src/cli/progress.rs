//! Progress and warnings on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onnx_unlearn::error::printable;
use onnx_unlearn::pipeline::Observer;
use std::io::Write;

/// A progress bar with rate and time left, where standard error is a terminal.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        Progress { bar: None, quiet }
    }
}

impl Observer for Progress {
    fn stage(&mut self, name: &str, total: usize) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.quiet {
            return;
        }
        let (bar, template) = match total {
            0 => (ProgressBar::new_spinner(), "{spinner} {msg}"),
            n => (ProgressBar::new(n as u64), "{msg} {wide_bar} {pos}/{len} samples, {per_sec}, {eta} left"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_string());
        bar.tick();
        self.bar = Some(bar);
    }

    fn advance(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    fn warning(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        let line = format!("warning: {}", printable(text));
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }
}

/// A reader of standard error that has gone away is no panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
