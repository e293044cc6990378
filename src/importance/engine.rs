//! One pass over a data set, batch by batch.

use super::contract::{Power, Value, Values, accumulate};
use super::memory::{Need, limit, resident};
use super::{ImportanceError, Shard, Sums};
use crate::autograd::objective::{ONE_HOT, Objective, SAMPLE_WEIGHT};
use crate::autograd::{Backward, Reduction, Weight, check_rules, differentiate};
use crate::data::{Batch, DataSet};
use crate::graph::{Graph, Name};
use crate::session::{Feed, Output, Runtime, Session};
use crate::specialise::specialise;
use crate::tensor::Tensor;
use crate::with_array;
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// What importance is computed of.
#[derive(Clone, Debug)]
pub struct Settings {
    pub objective: Objective,
    pub reduction: Reduction,
    /// Samples in a batch; chosen by the size of the activations where absent. It changes the result of
    /// the batch reduction alone.
    pub batch_size: Option<usize>,
    /// Add gradients themselves in place of their absolute values (squares for `fisher`).
    pub signed: bool,
    /// Bytes that the process may take; a share of what is free where absent.
    pub memory: Option<u64>,
    /// Passes whose sums are in memory at the same time.
    pub passes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (objective, reduction) = (Objective::SquaredL2, Reduction::Sample);
        Settings { objective, reduction, batch_size: None, signed: false, memory: None, passes: 1 }
    }
}

/// How far a pass is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub samples: usize,
    pub of: usize,
}

/// What is done of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    pub batches: usize,
    pub sums: Sums,
}

/// Authors' batch size, taken for the batch reduction.
const BATCH_OF_AUTHORS: usize = 64;
/// Bytes that the values of the forward graph may take in a batch chosen by itself, and its largest size.
const AUTO_BYTES: usize = 2 << 30;
const AUTO_MOST: usize = 32;

/// Computes importance of the weights of one model.
pub struct Importance<'a> {
    runtime: &'a Runtime,
    graph: &'a Graph,
    parameters: &'a BTreeSet<Name>,
    settings: Settings,
    pool: Arc<rayon::ThreadPool>,
    /// Ready backward graphs by batch size.
    engines: BTreeMap<usize, Engine>,
    /// The batch size in use, once one is known.
    size: Option<usize>,
    /// Bytes that the process may take, and that it had before the first pass.
    limit: Option<u64>,
    before: u64,
    warnings: Vec<String>,
    /// The first output of the model for each sample of the last pass, as far as it is kept.
    outputs: Option<Kept>,
}

/// Rows of outputs, sample by sample.
#[derive(Default)]
struct Kept {
    shape: Vec<usize>,
    elements: Vec<f32>,
    /// Too many, or not in float32.
    spilt: bool,
}

/// Elements of outputs that are kept at most.
const KEPT: usize = 1 << 26;

impl Kept {
    fn add(&mut self, output: Option<&Value>, samples: usize) {
        let rows = match output {
            Some(Value::Single(shape, elements)) if shape.len() > 1 => {
                self.shape = shape[1..].to_vec();
                elements.get(..samples * self.shape.iter().product::<usize>())
            }
            _ => None,
        };
        match rows.filter(|rows| self.elements.len() + rows.len() <= KEPT) {
            Some(rows) => self.elements.extend(rows),
            None => self.spilt = true,
        }
    }
}

struct Engine {
    backward: Backward,
    /// None where no gradient needs a value of the graph.
    session: Option<Box<dyn Session>>,
}

impl<'a> Importance<'a> {
    /// Checks that every operator between parameters and outputs has a gradient.
    ///
    /// # Errors
    /// All operators without a rule, in one message.
    pub fn new(
        runtime: &'a Runtime,
        graph: &'a Graph,
        parameters: &'a BTreeSet<Name>,
        settings: Settings,
    ) -> Result<Self, ImportanceError> {
        check_rules(graph, parameters)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(runtime.threads()).build();
        let pool = pool.map_err(|e| ImportanceError::Threads(e.to_string()))?;
        let (pool, engines) = (Arc::new(pool), BTreeMap::new());
        let (limit, before) = (limit(settings.memory), resident());
        let (size, warnings, outputs) = (None, vec![], None);
        Ok(Importance { runtime, graph, parameters, settings, pool, engines, size, limit, before, warnings, outputs })
    }

    /// Has the model's first output, which a pass computes anyway, kept.
    pub fn keep_outputs(&mut self) {
        self.outputs = Some(Kept::default());
    }

    /// The first output for each sample since the last call, `[samples, …]`; none where it was not kept: not asked for,
    /// too large, or not float32 with the samples on its first axis.
    pub fn take_outputs(&mut self) -> Option<ArrayD<f64>> {
        let Kept { shape, elements, spilt } = self.outputs.as_mut().map(std::mem::take)?;
        let samples = elements.len() / shape.iter().product::<usize>().max(1);
        let elements = elements.into_iter().map(f64::from).collect();
        let rows = ArrayD::from_shape_vec([&[samples], &shape[..]].concat(), elements).ok()?;
        (!spilt && samples > 0).then_some(rows)
    }

    /// What happened that the user should know.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The batch size in use, once data was seen.
    pub fn batch_size(&self) -> Option<usize> {
        self.size
    }

    /// The sums over a data set. The bits of the result depend on the data, the batch size and the
    /// runtime, not on the number of threads.
    ///
    /// # Errors
    /// The runtime or a rule refuses the model, the data cannot be read, labels are missing for
    /// `fisher`, a sum is not finite.
    pub fn run(&mut self, data: &DataSet, mut progress: impl FnMut(Progress)) -> Result<Sums, ImportanceError> {
        let mut done = Done::default();
        self.go_on(data, Shard::WHOLE, &mut done, |_, step| {
            progress(step);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(done.sums)
    }

    /// Goes on with a pass over one part of a data set from what is done of it, and gives the same bits as a
    /// pass that was never stopped. `after` is told after each batch, and says whether to go on.
    ///
    /// # Errors
    /// As [`Importance::run`], and those of `after`; a data set of fewer batches than parts.
    pub fn go_on(
        &mut self,
        data: &DataSet,
        shard: Shard,
        done: &mut Done,
        mut after: impl FnMut(&Done, Progress) -> Result<ControlFlow<()>, ImportanceError>,
    ) -> Result<(), ImportanceError> {
        if data.is_empty() {
            return Ok(());
        }
        let size = self.settle(data)?;
        let samples = shard_samples(data, shard, size)?;
        let start = samples.end.min(samples.start + done.batches.saturating_mul(size));
        let mut step = Progress { samples: start - samples.start, of: samples.len() };
        let rest = data.select(&(start..samples.end).collect::<Vec<_>>())?;
        // The next batch is read while this one is computed.
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(1);
            scope.spawn(move || rest.batches(size).all(|batch| send.send(batch).is_ok()));
            for batch in receive {
                let batch = batch?;
                self.add(&batch, size, &mut done.sums)?;
                done.batches += 1;
                done.sums.count += if self.settings.reduction == Reduction::Sample { batch.samples as u64 } else { 1 };
                step.samples += batch.samples;
                if after(done, step)?.is_break() {
                    break;
                }
            }
            Ok::<_, ImportanceError>(())
        })?;
        done.sums.check_finite()
    }

    /// Settles the batch size on the first data that is seen; part of a data set is not enough, for all parts
    /// need the same.
    ///
    /// # Errors
    /// The runtime or a rule refuses the model, the data cannot be read.
    pub fn settle(&mut self, data: &DataSet) -> Result<usize, ImportanceError> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let fixed = self.graph.fixed_batch();
        let asked = match (fixed, self.settings.batch_size, self.settings.reduction) {
            (Some(fixed), _, _) => fixed,
            (None, Some(asked), _) => asked.max(1),
            (None, None, Reduction::Batch) => BATCH_OF_AUTHORS,
            (None, None, Reduction::Sample) => self.fitting(data)?,
        };
        let first = data.batches(asked.min(data.len())).next().transpose()?;
        let Some(first) = first else { return Ok(asked) };
        let mixed = self.engine(&first, asked)?.backward.mixed.clone();
        let size = match (mixed, self.settings.reduction) {
            (Some(node), Reduction::Sample) if asked > 1 => {
                if fixed.is_some() {
                    return Err(ImportanceError::FixedAndMixed { node, batch: asked });
                }
                self.warnings.push(format!("samples cannot be told apart at {node}: using batches of one"));
                self.engines.clear();
                1
            }
            _ => asked,
        };
        self.size = Some(size);
        Ok(size)
    }

    /// The largest batch whose forward values fit into a fixed share of memory, or fewer samples where the limit on
    /// memory asks for that.
    fn fitting(&self, data: &DataSet) -> Result<usize, ImportanceError> {
        let Some(one) = data.batches(1).next().transpose()? else { return Ok(1) };
        let specialised = specialise(self.graph, self.parameters, &one.inputs, 1, self.runtime)?;
        let facts = &specialised.facts;
        let bytes =
            |(dtype, shape): &(crate::tensor::DType, Vec<usize>)| dtype.size() * shape.iter().product::<usize>();
        let constants: usize = facts.constants.values().map(|t| t.len() * t.dtype().size()).sum();
        let total: usize = facts.kinds.values().map(bytes).sum::<usize>().saturating_sub(constants);
        let most = (AUTO_BYTES / total.max(1)).clamp(1, AUTO_MOST);
        let Settings { objective, reduction, .. } = self.settings;
        let need = Need::of(
            &differentiate(specialised, self.parameters, objective, reduction)?,
            self.settings.passes,
            self.before,
        );
        Ok(need.batch(self.limit).min(most))
    }

    /// The backward graph and its session for one batch size.
    fn engine(&mut self, batch: &Batch, size: usize) -> Result<&mut Engine, ImportanceError> {
        if !self.engines.contains_key(&size) {
            let feed = padded(batch, size);
            let specialised = specialise(self.graph, self.parameters, &feed, size, self.runtime)?;
            let (objective, reduction) = (self.settings.objective, self.settings.reduction);
            let mut backward = differentiate(specialised, self.parameters, objective, reduction)?;
            if let (Some(output), Some(_)) = (self.graph.outputs.first(), &self.outputs) {
                backward.show(output);
            }
            Need::of(&backward, self.settings.passes, self.before).check(size, self.limit)?;
            let session = match backward.graph.outputs.is_empty() {
                true => None,
                false => Some(self.runtime.session(&backward.graph, &backward.kinds)?),
            };
            self.engines.insert(size, Engine { backward, session });
        }
        self.engines.get_mut(&size).ok_or_else(|| ImportanceError::Value { name: "batch".into(), shape: vec![size] })
    }

    fn add(&mut self, batch: &Batch, size: usize, sums: &mut Sums) -> Result<(), ImportanceError> {
        let Settings { objective, reduction, signed, .. } = self.settings;
        // Where samples are mixed, padding would change the others: a smaller batch gets a graph of its own.
        let mixed = self.engines.get(&size).is_some_and(|e| e.backward.mixed.is_some());
        let size = if mixed { batch.samples } else { size };
        let (pool, mut kept, first) = (self.pool.clone(), self.outputs.take(), self.graph.outputs.first());
        let engine = self.engine(batch, size)?;
        let mut feed = padded(batch, size);
        let each = if reduction == Reduction::Sample { 1.0 } else { 1.0 / batch.samples as f32 };
        let weight = Array1::from_shape_fn(size, |i| if i < batch.samples { each } else { 0.0 });
        feed.insert(SAMPLE_WEIGHT.into(), Tensor::F32(weight.into_dyn()));
        if objective == Objective::Fisher {
            feed.insert(ONE_HOT.into(), one_hot(batch, size, &engine.backward)?);
        }
        let power = match (signed, objective) {
            (true, _) => Power::Signed,
            (false, Objective::Fisher) => Power::Square,
            (false, _) => Power::Absolute,
        };
        let backward = &engine.backward;
        for weight in &backward.weights {
            sums.weights.entry(weight.name.to_string()).or_insert_with(|| ArrayD::zeros(IxDyn(&weight.shape)));
        }
        let mut added = Ok(());
        let mut contract = |outputs: Vec<Output>| {
            let mut values: Values = feed.iter().map(|(name, tensor)| (name.as_str(), tensor.into())).collect();
            values.extend(backward.graph.constants.iter().map(|(name, tensor)| (&**name, (&**tensor).into())));
            values.extend(backward.graph.outputs.iter().zip(&outputs).map(|(name, output)| (&**name, output.into())));
            if let Some(kept) = &mut kept {
                kept.add(first.and_then(|name| values.get(&**name)), batch.samples);
            }
            // Both are in the order of names.
            let totals: Vec<_> = sums.weights.values_mut().zip(&backward.weights).collect();
            let one = |(total, weight): (&mut ArrayD<f64>, &Weight)| {
                accumulate(weight, size, &values, power, total.as_slice_mut().unwrap_or_default())
            };
            added = pool.install(|| totals.into_par_iter().with_max_len(1).try_for_each(one));
        };
        match &mut engine.session {
            Some(session) => session.show(&feed, &mut contract)?,
            None => contract(vec![]),
        }
        self.outputs = kept;
        added
    }
}

/// The samples of one part of a data set, which is cut between batches.
///
/// # Errors
/// There are fewer batches than parts.
pub fn shard_samples(data: &DataSet, shard: Shard, size: usize) -> Result<Range<usize>, ImportanceError> {
    let batches = data.len().div_ceil(size);
    if shard.of() as usize > batches {
        return Err(ImportanceError::Shards { shard, batches, size });
    }
    let part = shard.batches(batches);
    Ok(part.start * size..data.len().min(part.end * size))
}

/// The inputs of a batch filled up to `size` samples with copies of its last one.
pub(crate) fn padded(batch: &Batch, size: usize) -> Feed {
    let pad = |tensor: &Tensor| {
        with_array!(tensor, a => {
            let rows: Vec<usize> = (0..size).map(|i| i.min(batch.samples.saturating_sub(1))).collect();
            Tensor::from(a.select(Axis(0), &rows))
        })
    };
    batch.inputs.iter().map(|(n, t)| (n.clone(), if batch.samples == size { t.clone() } else { pad(t) })).collect()
}

fn one_hot(batch: &Batch, size: usize, backward: &Backward) -> Result<Tensor, ImportanceError> {
    let labels = batch.labels.as_ref().ok_or(ImportanceError::NoLabels)?;
    let classes = backward.kinds.get(ONE_HOT).and_then(|(_, shape)| shape.get(1)).copied().unwrap_or(0);
    let mut rows = Array2::<f32>::zeros((size, classes));
    for (sample, &label) in labels.iter().enumerate() {
        let class = usize::try_from(label).ok().filter(|&c| c < classes);
        let class = class.ok_or(ImportanceError::Label { label, sample, classes })?;
        rows[[sample, class]] = 1.0;
    }
    Ok(Tensor::F32(rows.into_dyn()))
}
