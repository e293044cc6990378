//! On which execution provider each node of a session runs, read from ONNX Runtime's own record.

use ort::AsPointer;
use std::ffi::{CStr, c_char};

/// A node of the optimised graph and the execution provider that it was given to.
pub(super) struct Assigned {
    pub provider: String,
    pub op: String,
    pub name: String,
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
