//! The geometry of sliding windows, with padding made explicit from the shapes that are known.

use super::{GradError, Node, Tape};
use crate::autograd::ConvGeometry;
use crate::graph::Name;

/// Windows of an input slid over its spatial axes.
pub(in crate::autograd) struct Windows {
    /// Sizes of the spatial axes of the input and of the output.
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    pub geometry: ConvGeometry,
    /// What the last window reaches beyond the input at the end of each axis; negative where it ends before.
    pub end: Vec<i64>,
}

impl Windows {
    /// The windows of a convolution or pooling of `x` into `y` with kernels of the given size.
    ///
    /// # Errors
    /// Attributes that do not fit the rank.
    pub fn new(node: &Node, tape: &Tape, x: &Name, y: &Name, kernel: Vec<usize>) -> Result<Windows, GradError> {
        let (input, output) = (tape.shape(x), tape.shape(y));
        let rank = kernel.len();
        if input.len() != rank + 2 || output.len() != rank + 2 {
            return Err(node.bad("kernel_shape").into());
        }
        let (input, output) = (input[2..].to_vec(), output[2..].to_vec());
        let sizes = |name: &str| -> Result<Vec<usize>, GradError> {
            let given = node.ints(name).filter(|v| !v.is_empty());
            let list: Vec<usize> = given.map_or(vec![1; rank], |v| v.iter().map(|&s| s.max(0) as usize).collect());
            if list.len() == rank && list.iter().all(|&s| s > 0) { Ok(list) } else { Err(node.bad(name).into()) }
        };
        let (strides, dilations) = (sizes("strides")?, sizes("dilations")?);
        let reach = |i: usize| (output[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1;
        let pads: Vec<usize> = match node.string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => {
                let pads = node.ints("pads").filter(|p| !p.is_empty());
                pads.map_or(vec![0; rank], |p| p.iter().take(rank).map(|&p| p.max(0) as usize).collect())
            }
            mode => (0..rank)
                .map(|i| match (reach(i).saturating_sub(input[i]), mode) {
                    (total, "SAME_UPPER") => total / 2,
                    (total, "SAME_LOWER") => total.div_ceil(2),
                    _ => 0,
                })
                .collect(),
        };
        if pads.len() != rank {
            return Err(node.bad("pads").into());
        }
        let end = (0..rank).map(|i| reach(i) as i64 - input[i] as i64 - pads[i] as i64).collect();
        let geometry = ConvGeometry { group: 1, kernel, strides, dilations, pads };
        Ok(Windows { input, output, geometry, end })
    }

    /// The windows of the convolution from `y` to `x` that a transposed convolution of `x` into `y` undoes.
    ///
    /// # Errors
    /// Attributes that do not fit the rank.
    pub fn transposed(node: &Node, tape: &Tape, x: &Name, y: &Name, kernel: Vec<usize>) -> Result<Windows, GradError> {
        let rank = kernel.len();
        let explicit = Node {
            attributes: node.attributes.iter().filter(|a| a.name != "auto_pad").cloned().collect(),
            ..node.clone()
        };
        let mut windows = Windows::new(&explicit, tape, y, x, kernel)?;
        let mode = node.string("auto_pad").unwrap_or("NOTSET");
        let asked = node.ints("output_shape").is_some_and(|s| !s.is_empty());
        let extra = node.ints("output_padding").unwrap_or_default();
        for i in 0..rank {
            // What the windows reach beyond the output at both ends together.
            let total = windows.end[i] + windows.geometry.pads[i] as i64;
            let padding = (total + extra.get(i).copied().unwrap_or(0)).max(0);
            let begin = match mode {
                "SAME_UPPER" => padding / 2,
                "SAME_LOWER" => padding - padding / 2,
                _ if asked => padding - padding / 2,
                "VALID" => 0,
                _ => windows.geometry.pads[i] as i64,
            };
            windows.geometry.pads[i] = begin as usize;
            windows.end[i] = total - begin;
        }
        windows.geometry.group = node.int("group").unwrap_or(1).max(1) as usize;
        Ok(windows)
    }

    /// Padding in the order of the attribute `pads`, and `output_padding`, of the transposed convolution
    /// that takes the output's shape back to the input's.
    pub fn transposed_pads(&self) -> (Vec<i64>, Vec<i64>) {
        let begin = self.geometry.pads.iter().map(|&p| p as i64);
        let end = self.end.iter().map(|&e| e.max(0));
        (begin.chain(end).collect(), self.end.iter().map(|&e| (-e).max(0)).collect())
    }
}
