//! On which execution provider each node of a session runs, read from ONNX Runtime's own record.

use crate::error::printable;
use ort::AsPointer;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};

/// A node of the optimised graph and the execution provider that it was given to.
pub(super) struct Assigned {
    pub provider: String,
    pub op: String,
    pub name: String,
}

/// How many nodes an execution provider was given.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Assignment {
    pub provider: String,
    pub nodes: usize,
    /// Convolutions and matrix products among them, which do the work.
    pub products: usize,
}

/// Convolutions and matrix products, what ONNX Runtime fuses them into, and our own.
const PRODUCTS: [&str; 12] = [
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "FusedConv",
    "FusedMatMul",
    "FusedGemm",
    "NhwcConv",
    "NhwcFusedConv",
    super::onnxruntime::WINOGRAD_CONV,
    super::onnxruntime::DEPTHWISE_CONV,
    super::onnxruntime::IMPLICIT_CONV,
];

fn is_product(node: &Assigned) -> bool {
    PRODUCTS.contains(&node.op.as_str())
}

/// Numbers of nodes by provider, added up over graphs.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<String, (usize, usize)>);

impl Tally {
    pub(super) fn add(&mut self, record: &[Assigned]) {
        for node in record {
            let (nodes, products) = self.0.entry(node.provider.clone()).or_default();
            *nodes += 1;
            *products += usize::from(is_product(node));
        }
    }

    pub(super) fn list(&self) -> Vec<Assignment> {
        let row = |(provider, &(nodes, products)): (&String, &(usize, usize))| Assignment {
            provider: provider.clone(),
            nodes,
            products,
        };
        self.0.iter().map(row).collect()
    }
}

/// Whether every operator that does the work was given to `provider`; the runtime moves it to the CPU without a word.
///
/// # Errors
/// The first node that was not, and how many there are.
pub(super) fn all_on(provider: &str, record: &[Assigned]) -> Result<(), String> {
    let elsewhere: Vec<&Assigned> = record.iter().filter(|n| is_product(n) && n.provider != provider).collect();
    let Some(node) = elsewhere.first() else { return Ok(()) };
    let others = match elsewhere.len() - 1 {
        0 => String::new(),
        n => format!(", and {n} more of the graph's products"),
    };
    Err(format!("{} '{}' was assigned to {}{others}", node.op, printable(&node.name), node.provider))
}

/// The record of a session built with `session.record_ep_graph_assignment_info` = `1`.
pub(super) fn of(session: &ort::session::Session) -> Result<Vec<Assigned>, String> {
    let api = ort::api();
    let mut out = Vec::new();
    // SAFETY: the session is alive for the whole function; the arrays and strings that the calls
    // hand out belong to it, and are copied here.
    unsafe {
        let mut subgraphs = std::ptr::null();
        let mut count = 0;
        check((api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut subgraphs, &mut count))?;
        for i in 0..count {
            let subgraph = *subgraphs.add(i);
            let provider = text(|p| (api.EpAssignedSubgraph_GetEpName)(subgraph, p))?;
            let mut nodes = std::ptr::null();
            let mut len = 0;
            check((api.EpAssignedSubgraph_GetNodes)(subgraph, &mut nodes, &mut len))?;
            for j in 0..len {
                let node = *nodes.add(j);
                let op = text(|p| (api.EpAssignedNode_GetOperatorType)(node, p))?;
                let name = text(|p| (api.EpAssignedNode_GetName)(node, p))?;
                out.push(Assigned { provider: provider.clone(), op, name });
            }
        }
    }
    Ok(out)
}

/// The execution providers that the loaded library was built with.
pub(super) fn providers() -> Result<Vec<String>, String> {
    let api = ort::api();
    let (mut names, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the library hands out `count` strings, which are copied and given back.
    unsafe {
        check((api.GetAvailableProviders)(&mut names, &mut count))?;
        let copy = |i| CStr::from_ptr(*names.add(i)).to_string_lossy().into_owned();
        let list = (0..usize::try_from(count).unwrap_or(0)).map(copy).collect();
        check((api.ReleaseAvailableProviders)(names, count))?;
        Ok(list)
    }
}

unsafe fn check(status: ort::sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: `status` comes straight from the runtime, which gives ownership of it.
    unsafe { ort::Error::result_from_status(status) }.map_err(|e| e.to_string())
}

fn text(get: impl FnOnce(*mut *const c_char) -> ort::sys::OrtStatusPtr) -> Result<String, String> {
    let mut pointer = std::ptr::null();
    // SAFETY: the getter fills the pointer with a string of the session, ended by a zero byte.
    unsafe {
        check(get(&mut pointer))?;
        if pointer.is_null() {
            return Ok(String::new());
        }
        Ok(CStr::from_ptr(pointer).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUDA: &str = "CUDAExecutionProvider";
    const CPU: &str = "CPUExecutionProvider";

    fn node(provider: &str, op: &str, name: &str) -> Assigned {
        Assigned { provider: provider.into(), op: op.into(), name: name.into() }
    }

    #[test]
    fn nodes_are_counted_by_provider() {
        let mut tally = Tally::default();
        tally.add(&[node(CUDA, "Conv", "a"), node(CUDA, "Relu", "b"), node(CPU, "Shape", "c")]);
        tally.add(&[node(CUDA, "FusedMatMul", "a")]);
        let row = |provider: &str, nodes, products| Assignment { provider: provider.into(), nodes, products };
        assert_eq!(tally.list(), [row(CPU, 1, 0), row(CUDA, 3, 2)]);
    }

    #[test]
    fn a_product_elsewhere_is_named() {
        let good = [node(CUDA, "Conv", "a"), node(CPU, "Shape", "b"), node(CUDA, "Gemm", "c")];
        assert_eq!(all_on(CUDA, &good), Ok(()));
        let bad = [node(CUDA, "Conv", "a"), node(CPU, "Gemm", "head\u{1b}[2J")];
        insta::assert_snapshot!(all_on(CUDA, &bad).unwrap_err(), @r"Gemm 'head\u{1b}[2J' was assigned to CPUExecutionProvider");
        let worse = [node(CPU, "MatMul", "q"), node(CPU, "Relu", "r"), node(CPU, "Conv", "s"), node(CPU, "Conv", "t")];
        insta::assert_snapshot!(all_on(CUDA, &worse).unwrap_err(), @"MatMul 'q' was assigned to CPUExecutionProvider, and 2 more of the graph's products");
    }
}
