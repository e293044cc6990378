//! Prints `docs/operators.md`.

#[allow(dead_code, reason = "shared with the gradient checks")]
#[path = "../tests/gradcheck/case.rs"]
mod case;
#[allow(dead_code, reason = "shared with the gradient checks")]
#[path = "../tests/gradcheck/document.rs"]
mod document;
#[allow(dead_code, reason = "shared with the gradient checks")]
#[path = "../tests/gradcheck/numbers.rs"]
mod numbers;
#[path = "../tests/gradcheck/table/mod.rs"]
mod table;

fn main() {
    print!("{}", document::document(&table::cases(), include_str!("../tests/nodes/manifest.txt")));
}
