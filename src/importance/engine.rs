//! One pass over a data set, batch by batch.

use super::batch::{one_hot, padded, part};
use super::contract::{Value, Values, accumulate};
use super::memory::{Need, limit, resident};
use super::outputs::Kept;
use super::{ImportanceError, Shard, Sums};
use crate::autograd::objective::{ONE_HOT, Objective, SAMPLE_WEIGHT};
use crate::autograd::{Accumulating, Backward, Power, Reduction, Weight, accumulating, check_rules, differentiate};
use crate::data::{Batch, DataSet};
use crate::graph::{Graph, Name};
use crate::session::{Carried, Output, Runtime, Session};
use crate::specialise::specialise;
use crate::tensor::Tensor;
use ndarray::{Array1, ArrayD, IxDyn};
use rayon::prelude::*;
use std::collections::btree_map::Entry;
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
    /// Where contractions are computed; in the graph on a GPU and in kernels of our own on the CPU where absent.
    pub lowering: Option<Lowering>,
}

/// Where weights' gradients are contracted and added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// In fused kernels on the CPU, in float64 from batch to batch.
    Kernels,
    /// In standard operators of the graph; the sums stay on the runtime's device, in float32, and are added to float64
    /// every so many batches. Where a contraction has no such form, the kernels do it.
    Graph,
}

impl Default for Settings {
    fn default() -> Self {
        let (objective, reduction) = (Objective::SquaredL2, Reduction::Sample);
        Settings { objective, reduction, batch_size: None, signed: false, memory: None, passes: 1, lowering: None }
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
/// Batches after which sums in float32 that stay on a device are added to those in float64.
const FLUSH: usize = 64;
/// Bytes of gradients of single samples that a graph holds at a time, and of a limit on memory the part.
const ROOM: usize = 256 << 20;
const ROOM_SHARE: u64 = 8;

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
    /// The largest batch that the device had memory for, once it had too little for one.
    shrunk: Option<usize>,
    /// The first output of the model for each sample of the last pass, as far as it is kept.
    outputs: Option<Kept>,
}

struct Engine {
    backward: Backward,
    /// None where no gradient needs a value of the graph.
    session: Option<Box<dyn Session>>,
    /// The sums that the graph itself adds up, in the order of the weights.
    carried: Option<Vec<Carried>>,
}

impl Engine {
    /// Adds the sums that stayed with the runtime to those in float64.
    fn flush(&mut self, sums: &mut Sums) -> Result<(), ImportanceError> {
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
        let (size, warnings, outputs, shrunk) = (None, vec![], None, None);
        Ok(Importance {
            runtime,
            graph,
            parameters,
            settings,
            pool,
            engines,
            size,
            limit,
            before,
            warnings,
            shrunk,
            outputs,
        })
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
            // Of batches that are not in float64 yet, number and count.
            let mut open = (0, 0);
            for batch in receive {
                let batch = batch?;
                self.add(&batch, size, &mut done.sums)?;
                open.0 += 1;
                open.1 += if self.settings.reduction == Reduction::Sample { batch.samples as u64 } else { 1 };
                step.samples += batch.samples;
                // At the same places of a pass however often it was stopped.
                if !self.carries() || step.samples == step.of || (done.batches + open.0).is_multiple_of(FLUSH) {
                    self.engines.values_mut().try_for_each(|engine| engine.flush(&mut done.sums))?;
                    done.batches += open.0;
                    done.sums.count += open.1;
                    open = (0, 0);
                }
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
            let lowered = self.lowered(&backward);
            if lowered.is_none() {
                Need::of(&backward, self.settings.passes, self.before).check(size, self.limit)?;
            }
            let session = match (&lowered, backward.graph.outputs.is_empty()) {
                (Some(lowered), _) => Some(self.runtime.session(&lowered.graph, &lowered.kinds)?),
                (None, true) => None,
                (None, false) => Some(self.runtime.session(&backward.graph, &backward.kinds)?),
            };
            let carried = lowered.map(|lowered| lowered.accumulators);
            self.engines.insert(size, Engine { backward, session, carried });
        }
        self.engines.get_mut(&size).ok_or_else(|| ImportanceError::Value { name: "batch".into(), shape: vec![size] })
    }

    /// The graph with the contractions in it, where they are to be there.
    fn lowered(&self, backward: &Backward) -> Option<Accumulating> {
        let own = if self.runtime.on_gpu() { Lowering::Graph } else { Lowering::Kernels };
        let room = self.settings.memory.map_or(ROOM, |limit| (limit / ROOM_SHARE) as usize);
        match self.settings.lowering.unwrap_or(own) {
            Lowering::Graph => accumulating(backward, self.power(), room),
            Lowering::Kernels => None,
        }
    }

    /// Whether sums stay with the runtime from batch to batch.
    fn carries(&self) -> bool {
        self.engines.values().any(|engine| engine.carried.is_some())
    }

    fn power(&self) -> Power {
        match (self.settings.signed, self.settings.objective) {
            (true, _) => Power::Signed,
            (false, Objective::Fisher) => Power::Square,
            (false, _) => Power::Absolute,
        }
    }

    /// Adds a batch; in halves where the device has too little memory for it and samples are counted one by one.
    fn add(&mut self, batch: &Batch, size: usize, sums: &mut Sums) -> Result<(), ImportanceError> {
        let fits = self.shrunk.map_or(size, |most| most.min(size));
        if batch.samples > fits {
            let firsts = (0..batch.samples).step_by(fits);
            let mut parts = firsts.map(|first| part(batch, first..batch.samples.min(first + fits)));
            return parts.try_for_each(|part| self.add(&part, size, sums));
        }
        match self.add_whole(batch, fits, sums) {
            Err(ImportanceError::Session(error))
                if error.out_of_memory() && fits > 1 && self.settings.reduction == Reduction::Sample =>
            {
                if let Some(mut engine) = self.engines.remove(&fits) {
                    engine.flush(sums)?;
                }
                self.warnings.push(format!("the device has too little memory for a batch of {fits}: halving it"));
                self.shrunk = Some(fits / 2);
                self.add(batch, size, sums)
            }
            other => other,
        }
    }

    fn add_whole(&mut self, batch: &Batch, size: usize, sums: &mut Sums) -> Result<(), ImportanceError> {
        let Settings { objective, reduction, .. } = self.settings;
        let power = self.power();
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
        let backward = &engine.backward;
        if let (Some(session), Some(carried)) = (&mut engine.session, &engine.carried) {
            let ran = session.carry(&feed, carried, &mut |outputs| {
                if let Some(kept) = &mut kept {
                    kept.add(outputs.first().map(Value::from).as_ref(), batch.samples);
                }
            });
            self.outputs = kept;
            return Ok(ran?);
        }
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
