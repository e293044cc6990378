//! What it costs to build the backward graph of a large model: a transformer of 5,000 nodes, or of as many as given.
//!
//! Given models, each with `data.npz` beside it or one folder above: how many nodes the graph that importance is computed
//! with has for the gradients, and how many forward; a line with both numbers and the path for each model.

#[path = "../tests/it/autograd/large.rs"]
mod large;

use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::autograd::{Reduction, differentiate, rewritten};
use onnx_unlearn::graph::{Graph, Name};
use onnx_unlearn::pipeline::{Common, open};
use onnx_unlearn::session::{Runtime, RuntimeOptions};
use onnx_unlearn::specialise::specialise;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let runtime = Runtime::open(RuntimeOptions::default())?;
    match given.first().map(|first| first.parse()) {
        None => large_model(&runtime, 5000),
        Some(Ok(nodes)) => large_model(&runtime, nodes),
        Some(Err(_)) => {
            for path in &given {
                match nodes(&runtime, Path::new(path)) {
                    Ok([backward, forward]) => println!("{backward}\t{forward}\t{path}"),
                    Err(error) => eprintln!("{path}: {error}"),
                }
            }
            Ok(())
        }
    }
}

/// Nodes that gradients need, and those of the model as it is differentiated: specialised, with its composed operators
/// written out and recurrent ones unrolled.
fn nodes(runtime: &Runtime, path: &Path) -> Result<[usize; 2], Box<dyn Error>> {
    let common = Common::default();
    let opened = open(path, &common)?;
    let data = path.ancestors().skip(1).take(2).map(|folder| folder.join("data.npz")).find(|data| data.exists());
    let data = opened.data(&data.ok_or("no data.npz beside it or one folder above")?, &common)?;
    let batch = data.batches(opened.graph.fixed_batch().unwrap_or(data.len())).next().ok_or("no samples")??;
    let specialised = specialise(&opened.graph, &opened.weights, &batch.inputs, batch.samples, runtime)?;
    let forward = rewritten(specialised.clone(), &opened.weights)?;
    let own: BTreeSet<&Name> = forward.nodes.iter().flat_map(|node| node.outputs.iter().flatten()).collect();
    let backward = differentiate(specialised, &opened.weights, Objective::SquaredL2, Reduction::Sample)?;
    Ok([added(&backward.graph, &own), forward.nodes.len()])
}

/// Nodes that give none of these values.
fn added(graph: &Graph, known: &BTreeSet<&Name>) -> usize {
    graph.nodes.iter().filter(|node| !node.outputs.iter().flatten().any(|output| known.contains(output))).count()
}

fn large_model(runtime: &Runtime, nodes: usize) -> Result<(), Box<dyn Error>> {
    let (graph, weights, feed) = large::transformer(nodes);
    let start = Instant::now();
    let specialised = large::specialised(&graph, &weights, &feed, runtime);
    let observed = start.elapsed();
    let again = specialised.clone();
    let start = Instant::now();
    let backward = large::backward(specialised, &weights);
    let built = start.elapsed();
    let forward: BTreeSet<&Name> = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten()).collect();
    let [added, all] = [added(&backward.graph, &forward), backward.graph.nodes.len()];
    let times = |nodes: usize| nodes as f64 / graph.nodes.len() as f64;
    println!("nodes of the model            {}", graph.nodes.len());
    println!(
        "nodes for the gradients       {added}: {:.2} times; with the model's {all}: {:.2} times",
        times(added),
        times(all)
    );
    println!("building the backward graph   {:.3} s", built.as_secs_f64());
    println!("observing the shapes before   {:.3} s", observed.as_secs_f64());
    let same = large::bytes(&backward) == large::bytes(&large::backward(again, &weights));
    println!("two builds give the same bytes: {}", if same { "yes" } else { "NO" });
    if same { Ok(()) } else { Err("two builds differ".into()) }
}
