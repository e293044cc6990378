//! The integration tests, one program so that the dependencies are linked once.

mod autograd;
mod data;
mod kernels;
mod model;
mod write;
