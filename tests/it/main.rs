//! The integration tests, one program so that the dependencies are linked once.

mod autograd;
mod cli;
mod cuda;
mod data;
mod gradient;
mod kernels;
mod layers;
mod lowering;
mod model;
mod prepare;
mod validate;
mod write;
