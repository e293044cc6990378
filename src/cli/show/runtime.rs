//! What would run, as text.

use super::{runtime_line, table};
use onnx_unlearn::error::printable;
use onnx_unlearn::session::cuda::Cuda;
use onnx_unlearn::session::cuda::libraries::Library;
use onnx_unlearn::session::install::Installed;
use onnx_unlearn::session::{RuntimeInfo, Surroundings};
use serde::Serialize;

/// The runtime that is used, and what surrounds it.
#[derive(Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub info: RuntimeInfo,
    #[serde(flatten)]
    pub around: Surroundings,
}

pub fn runtime(shown: &Shown) -> String {
    let library = shown.info.library.as_ref().map_or("embedded".into(), |path| path.display().to_string());
    let mut text = format!("{}\nlibrary: {library}\n", runtime_line(&shown.info));
    if !shown.around.providers.is_empty() {
        text += &format!("providers: {}\n", shown.around.providers.join(", "));
    }
    shown.around.cuda.as_ref().map_or(text.clone(), |found| text + &cuda(found))
}

/// The libraries for CUDA and what to do about those that are missing.
pub fn cuda(found: &Cuda) -> String {
    let mut text = String::new();
    if found.provider.is_some() {
        let known = |version: &Option<String>| version.clone().unwrap_or("unknown".into());
        let built = found.major.map_or("an unknown version".into(), |major| major.to_string());
        text += &format!(
            "CUDA: built for {built}; found: CUDA {}, cuDNN {}, driver for CUDA {}\n\n",
            known(&found.cuda_version),
            known(&found.cudnn_version),
            known(&found.driver_version)
        );
        text += &table(&["library", "of", "where"], &[], found.libraries.iter().map(row));
        text.push('\n');
    }
    found.advice.iter().for_each(|line| text += &format!("{}\n", printable(line)));
    text
}

fn row(library: &Library) -> Vec<String> {
    let maker = match library.maker {
        onnx_unlearn::session::cuda::libraries::Maker::Driver => "driver",
        onnx_unlearn::session::cuda::libraries::Maker::Cuda => "CUDA",
        onnx_unlearn::session::cuda::libraries::Maker::Cudnn => "cuDNN",
    };
    let place = match (&library.path, library.required) {
        (Some(path), _) => path.display().to_string(),
        (None, true) => "MISSING".into(),
        (None, false) => "not found; not needed by all graphs".into(),
    };
    let place = std::iter::once(place).chain(library.notes.iter().cloned()).collect::<Vec<_>>().join("; ");
    vec![library.name.clone(), maker.into(), printable(&place)]
}

pub fn installed(made: &Installed) -> String {
    let mut text = format!("installed {}\n", made.library.display());
    made.packages.iter().for_each(|package| text += &format!("from {package}\n"));
    made.linked.iter().for_each(|path| text += &format!("linked to {}\n", path.display()));
    text
}
