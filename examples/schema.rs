//! Prints the JSON schema of `report.json`, or of `sweep.json` for the argument `sweep`.

use onnx_unlearn::report;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sweep") => print!("{}", report::sweep::schema()),
        _ => print!("{}", report::schema()),
    }
}
