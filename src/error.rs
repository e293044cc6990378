//! What can go wrong, by the kind that a script acts on. Each stage has its own error type;
//! every one of them knows its [`Kind`].

/// The kind of a failure; its number is the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A bug in this program.
    Bug = 1,
    /// The command line asks for something impossible.
    Usage = 2,
    /// A model or data file is malformed, or they do not fit together.
    Malformed = 3,
    /// An operator, type or opset that is not supported.
    Unsupported = 4,
    /// A resource limit would be exceeded.
    Limit = 5,
    /// Reading or writing failed.
    Io = 6,
    /// A number that must be finite is NaN or infinite.
    NotFinite = 7,
    /// There is nothing to forget.
    Nothing = 8,
    /// A guard failed: the new model must not be deployed.
    Guard = 9,
    /// Stopped by SIGINT: 128 and the number of the signal.
    Interrupted = 130,
    /// Stopped by SIGTERM: 128 and the number of the signal.
    Terminated = 143,
}

/// Text from a file (names of tensors, nodes, …) made safe to print: control characters escaped.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}
