//! Signals that ask the program to stop.

use onnx_unlearn::error::Kind;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SIGNALS: [(i32, Kind); 2] = [(SIGINT, Kind::Interrupted), (SIGTERM, Kind::Terminated)];

/// The first signal is remembered, the second one ends the program at once.
pub struct Signals {
    /// Exit code that the first one asks for; 0 before.
    asked: Arc<AtomicUsize>,
}

impl Signals {
    pub fn watch() -> io::Result<Signals> {
        let (asked, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for (signal, kind) in SIGNALS {
            // In this order: the first signal finds the flag still down.
            flag::register_conditional_shutdown(signal, kind as i32, again.clone())?;
            flag::register(signal, again.clone())?;
            flag::register_usize(signal, asked.clone(), kind as usize)?;
        }
        Ok(Signals { asked })
    }

    /// What was asked for, if anything was.
    pub fn asked(&self) -> Option<Kind> {
        let asked = self.asked.load(Ordering::Relaxed);
        SIGNALS.into_iter().map(|(_, kind)| kind).find(|&kind| kind as usize == asked)
    }
}
