//! What a job reads that holds a forget set against all data, and the importance over both.

use super::{Common, Error, Observer, Opened, Rewrite, check_target, data_files, open, pass, profile, rewrite};
use crate::data::DataSet;
use crate::importance::{Importance, Origin, Profile, Settings, Sums};
use crate::report::{self, File};
use crate::session::Runtime;
use crate::write::check_output;
use ndarray::ArrayD;
use std::path::{Path, PathBuf};

/// Where the importance over all data comes from.
#[derive(Clone, Debug)]
pub enum Reference {
    /// The samples to be kept; all data are these and the forget set.
    Retain(PathBuf),
    /// All data, the forget set included.
    Full(PathBuf),
    /// A saved profile over all data.
    Profile(PathBuf),
}

impl Reference {
    fn role_and_path(&self) -> (&'static str, &Path) {
        match self {
            Reference::Retain(path) => ("retain", path),
            Reference::Full(path) => ("full", path),
            Reference::Profile(path) => ("profile", path),
        }
    }
}

/// A model and the data sets of a job.
pub(super) struct Sources {
    pub opened: Opened,
    pub forget: DataSet,
    /// Retained or all data; none in place of which there is a profile.
    pub other: Option<DataSet>,
    /// Every file that was read.
    pub inputs: Vec<File>,
    reference: Reference,
    saved: Option<Profile>,
}

/// Importance over the forget set and over all data.
pub(super) struct Measured {
    pub forget: Sums,
    pub full: Sums,
    pub batch_size: Option<usize>,
    pub warnings: Vec<String>,
    /// The first output of the original for the forget set and for the other data, where they were kept.
    pub outputs: [Option<ArrayD<f64>>; 2],
}

impl Measured {
    /// New weights by this importance, made by the runtime's threads.
    pub fn rewrite(&self, opened: &Opened, alpha: f64, lambda: f64, runtime: &Runtime) -> Result<Rewrite, Error> {
        runtime.pool().install(|| rewrite(opened, &self.forget, &self.full, alpha, lambda))
    }
}

impl Sources {
    /// Reads the model and the data. That the outputs can be written, and are none of the inputs, is checked
    /// before.
    pub fn read(
        model: &Path,
        forget: &Path,
        reference: &Reference,
        outputs: &[PathBuf],
        common: &Common,
    ) -> Result<Sources, Error> {
        let opened = open(model, common)?;
        let (role, place) = reference.role_and_path();
        let mut inputs = opened.files();
        let mut read: Vec<PathBuf> = inputs.iter().map(|f| f.path.clone()).collect();
        read.extend([forget.to_path_buf(), place.to_path_buf()]);
        outputs.iter().try_for_each(|output| check_output(output, &read))?;
        let set = opened.data(forget, common)?;
        inputs.extend(data_files(&set, "forget"));
        if set.is_empty() {
            return Err(Error::EmptySet { what: "forget", path: forget.into() });
        }
        let (mut other, mut saved) = (None, None);
        match reference {
            Reference::Profile(_) => saved = Some(profile(place, "profile", &opened, &mut inputs)?),
            _ => other = Some(opened.data(place, common)?),
        }
        inputs.extend(other.iter().flat_map(|set| data_files(set, role)));
        outputs.iter().try_for_each(|output| check_target(output, &inputs))?;
        Ok(Sources { opened, forget: set, other, inputs, reference: reference.clone(), saved })
    }

    /// The data that behaviour is to be kept on, where it is known apart from the forget set.
    pub fn retained(&self) -> Option<&DataSet> {
        self.other.as_ref().filter(|_| matches!(self.reference, Reference::Retain(_)))
    }

    /// Importance over the forget set and over all data.
    pub fn measure(
        &mut self,
        settings: &Settings,
        runtime: &Runtime,
        observer: &mut dyn Observer,
    ) -> Result<Measured, Error> {
        let both = Settings { passes: 2, ..settings.clone() };
        let mut engine = Importance::new(runtime, &self.opened.graph, &self.opened.weights, both)?;
        if let Some(saved) = &self.saved {
            self.check_settings(&saved.origin, settings, engine.settle(&self.forget)?)?;
        }
        engine.keep_outputs();
        let forget = pass(&mut engine, &self.forget, "importance, forget set", observer)?;
        let of_forget = engine.take_outputs();
        let full = match &self.other {
            Some(set) if set.is_empty() && self.retained().is_some() => forget.clone(),
            Some(set) if self.retained().is_some() => {
                let mut sums = pass(&mut engine, set, "importance, retain set", observer)?;
                sums.add(&forget)?;
                sums
            }
            Some(set) => pass(&mut engine, set, "importance, all data", observer)?,
            None => self.saved.take().map(|saved| saved.sums).unwrap_or_default(),
        };
        let warnings = engine.warnings().to_vec();
        let outputs = [of_forget, engine.take_outputs()];
        Ok(Measured { forget, full, batch_size: engine.batch_size(), warnings, outputs })
    }

    /// The settings for a report.
    pub fn settings(&self, settings: &Settings, measured: &Measured, common: &Common) -> report::Settings {
        report::Settings {
            objective: settings.objective,
            reduction: settings.reduction,
            batch_size: measured.batch_size,
            outputs: self.opened.output_names(),
            include: common.include.clone(),
            exclude: common.exclude.clone(),
        }
    }

    /// Measured importance as profiles: over the forget set, and over all data, where that was not read from one.
    pub fn profiles(&self, measured: &Measured, settings: &Settings) -> (Profile, Option<Profile>) {
        let origin = |data: String| {
            let batch_size = measured.batch_size.unwrap_or(0);
            Origin::whole(settings, batch_size, self.opened.output_names(), self.opened.model.sha256(), data)
        };
        let own = self.forget.sha256();
        let full = self.other.as_ref().map(|other| match self.retained() {
            Some(kept) if kept.is_empty() => own.to_string(),
            Some(kept) => own.min(kept.sha256()).to_string() + "," + own.max(kept.sha256()),
            None => other.sha256().to_string(),
        });
        let full = full.map(|data| Profile { sums: measured.full.clone(), origin: origin(data) });
        (Profile { sums: measured.forget.clone(), origin: origin(own.into()) }, full)
    }

    /// A saved profile over all data must have been computed as the forget set's importance is to be.
    fn check_settings(&self, saved: &Origin, settings: &Settings, batch_size: usize) -> Result<(), Error> {
        let outputs = self.opened.output_names();
        let asked = Origin::whole(settings, batch_size, outputs, &saved.model_sha256, String::new());
        match saved.difference(&asked) {
            Some((what, found, expected)) => {
                let what = what.trim_start_matches("the ");
                let reason = format!("it was computed with {what} {found}, but {expected} is asked for");
                Err(Error::Profile { path: self.reference.role_and_path().1.into(), reason })
            }
            None => Ok(()),
        }
    }
}
