//! The command `onnx-unlearn`.

mod cli;

use onnx_unlearn::error::Kind;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic is a bug; scripts are told so by its own exit code.
    let code = std::panic::catch_unwind(cli::run).unwrap_or(Kind::Bug as u8);
    ExitCode::from(code)
}
