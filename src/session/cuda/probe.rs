//! Versions that the libraries themselves tell.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `cudaRuntimeGetVersion` and `cuDriverGetVersion` both write 1000 * major + 10 * minor.
pub fn cuda(path: &Path, function: &CStr) -> Option<String> {
    let found = symbol(path, function)?;
    let mut number: c_int = 0;
    // SAFETY: both functions have this type in every release of CUDA, and need nothing set up before.
    let status = unsafe {
        let get: extern "C" fn(*mut c_int) -> c_int = std::mem::transmute(found);
        get(&mut number)
    };
    (status == 0 && number > 0).then(|| format!("{}.{}", number / 1000, number % 1000 / 10))
}

/// `cudnnGetVersion` gives 10000 * major + 100 * minor + patch since version 9.
pub fn cudnn(path: &Path) -> Option<String> {
    let found = symbol(path, c"cudnnGetVersion")?;
    // SAFETY: the function has this type in every release of cuDNN, and needs nothing set up before.
    let number = unsafe {
        let get: extern "C" fn() -> usize = std::mem::transmute(found);
        get()
    };
    (number >= 90_000).then(|| format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100))
}

/// A function of a library, which stays loaded; none where either is not there.
fn symbol(path: &Path, name: &CStr) -> Option<*mut c_void> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: both are strings ended by a zero byte; the library is never unloaded.
    let found = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, name.as_ptr())
    };
    (!found.is_null()).then_some(found)
}
