//! What it costs to build the backward graph of a large model: a transformer of 5,000 nodes, or of as many as given.

#[path = "../tests/it/autograd/large.rs"]
mod large;

use onnx_unlearn::session::{Runtime, RuntimeOptions};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nodes = std::env::args().nth(1).map_or(Ok(5000), |n| n.parse())?;
    let runtime = Runtime::open(RuntimeOptions::default())?;
    let (graph, weights, feed) = large::transformer(nodes);
    let start = Instant::now();
    let specialised = large::specialised(&graph, &weights, &feed, &runtime);
    let observed = start.elapsed();
    let again = specialised.clone();
    let start = Instant::now();
    let backward = large::backward(specialised, &weights);
    let built = start.elapsed();
    println!("nodes of the model            {}", graph.nodes.len());
    println!("nodes of the backward graph   {}", backward.graph.nodes.len());
    println!("backward to forward           {:.2}", backward.graph.nodes.len() as f64 / graph.nodes.len() as f64);
    println!("building the backward graph   {:.3} s", built.as_secs_f64());
    println!("observing the shapes before   {:.3} s", observed.as_secs_f64());
    let same = large::bytes(&backward) == large::bytes(&large::backward(again, &weights));
    println!("two builds give the same bytes: {}", if same { "yes" } else { "NO" });
    if same { Ok(()) } else { Err("two builds differ".into()) }
}
