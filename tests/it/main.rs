//! The integration tests, one program so that the dependencies are linked once.

mod data;
mod model;
mod write;
