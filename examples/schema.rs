//! Prints the JSON schema of `report.json`.

fn main() {
    print!("{}", onnx_unlearn::report::schema());
}
