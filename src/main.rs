//! The command `onnx-unlearn`.

mod cli;

use onnx_unlearn::error::Kind;
use std::process::ExitCode;

/// ONNX Runtime's released libraries tell their maker of every session, unless this variable is set when they are
/// loaded.
const SILENT: &str = "ORT_DISABLE_TELEMETRY";

fn main() -> ExitCode {
    if std::env::var_os(SILENT).is_none() {
        // SAFETY: no other thread is there yet that could read the environment.
        unsafe { std::env::set_var(SILENT, "1") };
    }
    // A panic is a bug; scripts are told so by its own exit code.
    let code = std::panic::catch_unwind(cli::run).unwrap_or(Kind::Bug as u8);
    ExitCode::from(code)
}
