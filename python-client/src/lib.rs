//! The native module `autolrs._core`: the Rust session and the schedules' files for Python. Waiting releases the interpreter's lock and
//! answers Ctrl-C; everything else is one short locked call.

mod errors;
mod fork;
mod line;
mod session;
mod spec;

use pyo3::prelude::*;

/// The session of a trainer, for the Python package.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::watch(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<line::Line>()?;
    module.add_class::<session::Session>()
}
