//! Progress and warnings on standard error.

use super::signals::Signals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onnx_unlearn::error::{Kind, printable};
use onnx_unlearn::pipeline::Observer;
use std::io::Write;

/// A progress bar with rate and time left, where standard error is a terminal.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    signals: Option<Signals>,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        Progress { bar: None, quiet, signals: None }
    }

    /// From now on signals stop the work in an orderly way.
    pub fn watch_signals(&mut self) -> std::io::Result<()> {
        self.signals = Some(Signals::watch()?);
        Ok(())
    }

    fn tell(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
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
        self.tell(&format!("warning: {}", printable(text)));
    }

    fn note(&mut self, text: &str) {
        self.tell(&printable(text));
    }

    fn stop(&mut self) -> Option<Kind> {
        self.signals.as_ref()?.asked()
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
