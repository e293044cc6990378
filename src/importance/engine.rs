//! The gradient graph for one batch size, ready to run, and what each batch adds.

use super::batch::{one_hot, padded};
use super::contract::{Value, Values, accumulate};
use super::memory::Need;
use super::outputs::Kept;
use super::{ImportanceError, Lowering, Settings, Sums};
use crate::autograd::objective::{ONE_HOT, Objective, SAMPLE_WEIGHT};
use crate::autograd::{Accumulating, Backward, PREFIX, Reduction, Weight, accumulating};
use crate::data::Batch;
use crate::graph::{Name, Node};
use crate::session::{Brought, Carried, Feed, Output, Runtime, Session};
use crate::tensor::Tensor;
use ndarray::{Array1, ArrayD, IxDyn};
use rayon::prelude::*;
use std::collections::btree_map::Entry;

/// Bytes of gradients of single samples that a graph holds at a time, and of a limit on memory the part.
const ROOM: usize = 256 << 20;
const ROOM_SHARE: u64 = 8;

pub(super) struct Engine {
    backward: Backward,
    /// None where no gradient needs a value of the graph.
    session: Option<Box<dyn Session>>,
    /// The sums that the graph itself adds up, in the order of the weights.
    carried: Option<Vec<Carried>>,
}

/// The first output of the model, and where it is kept.
pub(super) struct Shown<'a> {
    pub output: Option<&'a Name>,
    pub kept: &'a mut Kept,
}

impl Engine {
    /// # Errors
    /// The runtime refuses the graph; on the CPU, a batch needs more memory than `limit`.
    pub fn new(
        backward: Backward,
        settings: &Settings,
        runtime: &Runtime,
        before: u64,
        limit: Option<u64>,
    ) -> Result<Engine, ImportanceError> {
        let lowered = lowered(&backward, settings, runtime);
        let (need, own) = need(&backward, settings, runtime, before);
        if lowered.is_none() {
            need.check(backward.batch, limit)?;
        }
        let session = match (&lowered, backward.graph.outputs.is_empty()) {
            (Some(lowered), _) => Some(runtime.session(&lowered.graph, &lowered.kinds)?),
            (None, true) => None,
            (None, false) if own => Some(runtime.gradients(&backward.graph, &backward.kinds, &is_rough)?),
            (None, false) => Some(runtime.session(&backward.graph, &backward.kinds)?),
        };
        Ok(Engine { backward, session, carried: lowered.map(|lowered| lowered.accumulators) })
    }

    /// Why samples cannot be told apart, where they cannot.
    pub fn mixed(&self) -> Option<&String> {
        self.backward.mixed.as_ref()
    }

    /// Whether sums stay with the runtime from batch to batch.
    pub fn carries(&self) -> bool {
        self.carried.is_some()
    }

    /// Adds the sums that stayed with the runtime to those in float64.
    pub fn flush(&mut self, sums: &mut Sums) -> Result<(), ImportanceError> {
        let (Some(session), Some(carried)) = (&mut self.session, &self.carried) else { return Ok(()) };
        let mut fetched = session.fetch()?;
        for (weight, own) in self.backward.weights.iter().zip(carried) {
            let Some(part) = fetched.remove(&own.input).and_then(|t| t.to_f64()) else { continue };
            match sums.weights.entry(weight.name.to_string()) {
                Entry::Vacant(free) => drop(free.insert(part)),
                Entry::Occupied(mut known) => *known.get_mut() += &part,
            }
        }
        Ok(())
    }

    /// Adds a batch of at most as many samples as the graph is made for. Its inputs, filled up, may have been brought to where
    /// the session computes.
    ///
    /// # Errors
    /// The runtime fails, labels are missing for `fisher`, a value is not what the graph says.
    pub fn add(
        &mut self,
        batch: &Batch,
        settings: &Settings,
        pool: &rayon::ThreadPool,
        mut shown: Option<Shown>,
        brought: Option<Brought>,
        sums: &mut Sums,
    ) -> Result<(), ImportanceError> {
        let feed = self.feed(batch, settings, brought.is_none())?;
        let Engine { backward, session, carried } = self;
        if let (Some(session), Some(carried)) = (&mut *session, carried) {
            return Ok(session.carry(&feed, brought, carried, &mut |outputs| {
                if let Some(shown) = &mut shown {
                    shown.kept.add(outputs.first().map(Value::from).as_ref(), batch.samples);
                }
            })?);
        }
        for weight in &backward.weights {
            sums.weights.entry(weight.name.to_string()).or_insert_with(|| ArrayD::zeros(IxDyn(&weight.shape)));
        }
        let (size, power) = (backward.batch, settings.power());
        let mut added = Ok(());
        let mut contract = |outputs: Vec<Output>| {
            let mut values: Values = feed.iter().map(|(name, tensor)| (name.as_str(), tensor.into())).collect();
            values.extend(backward.graph.constants.iter().map(|(name, tensor)| (&**name, (&**tensor).into())));
            values.extend(backward.graph.outputs.iter().zip(&outputs).map(|(name, output)| (&**name, output.into())));
            if let Some(Shown { output, kept }) = &mut shown {
                kept.add(output.and_then(|name| values.get(&**name)), batch.samples);
            }
            // Both are in the order of names.
            let totals: Vec<_> = sums.weights.values_mut().zip(&backward.weights).collect();
            let one = |(total, weight): (&mut ArrayD<f64>, &Weight)| {
                accumulate(weight, size, &values, power, total.as_slice_mut().unwrap_or_default())
            };
            added = pool.install(|| totals.into_par_iter().with_max_len(1).try_for_each(one));
        };
        match session {
            Some(session) => session.show(&feed, &mut contract)?,
            None => contract(vec![]),
        }
        added
    }

    /// The inputs of the graph: samples, filled up, where they are asked for; how much each counts; their labels.
    fn feed(&self, batch: &Batch, settings: &Settings, samples: bool) -> Result<Feed, ImportanceError> {
        let size = self.backward.batch;
        let mut feed = if samples { padded(batch, size) } else { Feed::new() };
        let each = if settings.reduction == Reduction::Sample { 1.0 } else { 1.0 / batch.samples as f32 };
        let weight = Array1::from_shape_fn(size, |i| if i < batch.samples { each } else { 0.0 });
        feed.insert(SAMPLE_WEIGHT.into(), Tensor::F32(weight.into_dyn()));
        if settings.objective == Objective::Fisher {
            feed.insert(ONE_HOT.into(), one_hot(batch, size, &self.backward)?);
        }
        Ok(feed)
    }
}

/// What a pass needs of memory, and whether that is with the kernels of our own operators. They are left out where the
/// limit that was asked for has no room for them; what happens to be free has no say in it: it must not change the bits.
pub(super) fn need(backward: &Backward, settings: &Settings, runtime: &Runtime, before: u64) -> (Need, bool) {
    let beside = runtime.beside(&backward.graph, &backward.kinds, &is_rough);
    let [own, standard] = [before + beside, before].map(|before| Need::of(backward, settings.passes, before));
    match settings.memory {
        Some(limit) if own.bytes(backward.batch) > limit => (standard, false),
        _ => (own, true),
    }
}

/// Whether a convolution is one of gradients, with a kernel that differentiation turned: no ReLU is closed or opened by it.
fn is_rough(node: &Node) -> bool {
    node.input(1).is_some_and(|kernel| kernel.starts_with(PREFIX))
}

/// The graph with the contractions in it, where they are to be there.
fn lowered(backward: &Backward, settings: &Settings, runtime: &Runtime) -> Option<Accumulating> {
    let own = if runtime.on_gpu() { Lowering::Graph } else { Lowering::Kernels };
    let room = settings.memory.map_or(ROOM, |limit| (limit / ROOM_SHARE) as usize);
    match settings.lowering.unwrap_or(own) {
        Lowering::Graph => accumulating(backward, settings.power(), room),
        Lowering::Kernels => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::differentiate;
    use crate::graph::{Graph, Input};
    use crate::session::{Feed, RuntimeChoice, RuntimeOptions};
    use crate::specialise::specialise;
    use crate::tensor::DType;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn own_kernels_are_left_out_where_the_limit_has_no_room() {
        let name = |name: &str| Some(Name::from(name));
        let node = |op: &str, inputs: &[&str], output: &str, attributes| Node {
            name: String::new(),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(|input| name(input)).collect(),
            outputs: vec![name(output)],
            attributes,
        };
        let ones = |shape: &[usize]| Tensor::F32(ArrayD::ones(shape));
        let constants: BTreeMap<Name, Arc<Tensor>> =
            [("v".into(), Arc::new(ones(&[64, 64, 3, 3]))), ("w".into(), Arc::new(ones(&[64, 64, 3, 3])))].into();
        let weights = constants.keys().cloned().collect();
        let graph = Graph {
            nodes: vec![node("Conv", &["x", "v"], "h", vec![]), node("Conv", &["h", "w"], "y", vec![])],
            constants,
            inputs: vec![Input { name: "x".into(), dtype: DType::F32, shape: [8, 64, 20, 20].map(Some).to_vec() }],
            outputs: vec!["y".into()],
            opsets: [(String::new(), 17)].into(),
            ir_version: 8,
        };
        let choice = RuntimeOptions { runtime: RuntimeChoice::OnnxRuntime, ..RuntimeOptions::default() };
        let runtime = Runtime::open(choice).unwrap();
        let feed = Feed::from([("x".to_string(), ones(&[8, 64, 20, 20]))]);
        let specialised = specialise(&graph, &weights, &feed, 8, &runtime).unwrap();
        let backward = differentiate(specialised, &weights, Objective::SquaredL2, Reduction::Sample).unwrap();

        let under = |memory| {
            let (need, own) = need(&backward, &Settings { memory, ..Settings::default() }, &runtime, 0);
            (need.bytes(8), own)
        };
        let (whole, own) = under(None);
        assert!(own);
        assert_eq!(under(Some(whole)), (whole, true));
        let (less, own) = under(Some(whole - 1));
        // Two kernels forward and one back, of 16 and of 36 places for 64 × 64 numbers.
        let kernels = (2 * 16 + 36) * 64 * 64 * 4;
        assert_eq!((whole - less, own), (kernels, false));
    }
}
