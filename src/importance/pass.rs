//! One pass over a data set, batch by batch.

use super::batch::{padded, parts};
use super::engine::{Engine, Shown, need};
use super::memory::{limit, resident};
use super::outputs::Kept;
use super::{ImportanceError, Settings, Shard, Sums};
use crate::autograd::{Reduction, check_rules, differentiate};
use crate::data::{Batch, DataSet};
use crate::graph::{Graph, Name};
use crate::session::{Brought, Runtime};
use crate::specialise::specialise;
use crate::tensor::DType;
use ndarray::ArrayD;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;

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
/// Computes importance of the weights of one model.
pub struct Importance<'a> {
    runtime: &'a Runtime,
    graph: &'a Graph,
    parameters: &'a BTreeSet<Name>,
    settings: Settings,
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
        let engines = BTreeMap::new();
        let (limit, before) = (limit(settings.memory), resident());
        let (size, warnings, outputs, shrunk) = (None, vec![], None, None);
        Ok(Importance { runtime, graph, parameters, settings, engines, size, limit, before, warnings, shrunk, outputs })
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
        // The next batch is read, and brought to where it is needed, while this one is computed.
        let (runtime, ahead) = (self.runtime, AtomicBool::new(self.carries()));
        let bring = |batch: &Batch| ahead.load(Relaxed).then(|| runtime.bring(&padded(batch, size)))?;
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(1);
            let rest = &rest;
            scope.spawn(move || {
                let with_brought = |batch: Result<Batch, _>| batch.map(|batch| (bring(&batch), batch));
                rest.batches(size).map(with_brought).all(|batch| send.send(batch).is_ok())
            });
            // Of batches that are not in float64 yet, number and count.
            let mut open = (0, 0);
            for batch in receive {
                let (brought, batch) = batch?;
                self.add(&batch, brought, size, &mut done.sums)?;
                if self.shrunk.is_some() {
                    ahead.store(false, Relaxed);
                }
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
        let engine = self.build(&first, asked)?;
        let mixed = engine.mixed().cloned();
        self.engines.insert(asked, engine);
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
        let bytes = |(dtype, shape): &(DType, Vec<usize>)| dtype.size() * shape.iter().product::<usize>();
        let constants: usize = facts.constants.values().map(|t| t.len() * t.dtype().size()).sum();
        let total: usize = facts.kinds.values().map(bytes).sum::<usize>().saturating_sub(constants);
        let most = (AUTO_BYTES / total.max(1)).clamp(1, AUTO_MOST);
        let Settings { objective, reduction, .. } = self.settings;
        let backward = differentiate(specialised, self.parameters, objective, reduction)?;
        let (need, _) = need(&backward, &self.settings, self.runtime, self.before);
        Ok(need.batch(self.limit).min(most))
    }

    /// The gradient graph for one batch size, ready to run.
    fn build(&self, batch: &Batch, size: usize) -> Result<Engine, ImportanceError> {
        let specialised = specialise(self.graph, self.parameters, &padded(batch, size), size, self.runtime)?;
        let Settings { objective, reduction, .. } = self.settings;
        let mut backward = differentiate(specialised, self.parameters, objective, reduction)?;
        if let (Some(output), Some(_)) = (self.graph.outputs.first(), &self.outputs) {
            backward.show(output);
        }
        Engine::new(backward, &self.settings, self.runtime, self.before, self.limit)
    }

    /// Whether sums stay with the runtime from batch to batch.
    fn carries(&self) -> bool {
        self.engines.values().any(Engine::carries)
    }

    /// Adds a batch; in halves where the device has too little memory for it and samples are counted one by one. What was
    /// brought is its inputs filled up to the batch size in use.
    fn add(
        &mut self,
        batch: &Batch,
        brought: Option<Brought>,
        size: usize,
        sums: &mut Sums,
    ) -> Result<(), ImportanceError> {
        let fits = self.shrunk.map_or(size, |most| most.min(size));
        if batch.samples > fits {
            drop(brought);
            return parts(batch, fits).try_for_each(|part| self.add(&part, None, size, sums));
        }
        match self.add_whole(batch, brought, fits, sums) {
            Err(ImportanceError::Session(error))
                if error.out_of_memory() && fits > 1 && self.settings.reduction == Reduction::Sample =>
            {
                if let Some(mut engine) = self.engines.remove(&fits) {
                    engine.flush(sums)?;
                }
                self.warnings.push(format!("the device has too little memory for a batch of {fits}: halving it"));
                self.shrunk = Some(fits / 2);
                self.add(batch, None, size, sums)
            }
            other => other,
        }
    }

    fn add_whole(
        &mut self,
        batch: &Batch,
        brought: Option<Brought>,
        size: usize,
        sums: &mut Sums,
    ) -> Result<(), ImportanceError> {
        // Where samples are mixed, padding would change the others: a smaller batch gets a graph of its own.
        let mixed = self.engines.get(&size).is_some_and(|engine| engine.mixed().is_some());
        let size = if mixed { batch.samples } else { size };
        let brought = brought.filter(|_| self.size == Some(size));
        let mut engine = match self.engines.remove(&size) {
            Some(engine) => engine,
            None => self.build(batch, size)?,
        };
        let shown = self.outputs.as_mut().map(|kept| Shown { output: self.graph.outputs.first(), kept });
        let added = engine.add(batch, &self.settings, self.runtime.pool(), shown, brought, sums);
        self.engines.insert(size, engine);
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
