//! Folders of images, preprocessed as `preprocessor_config.json` says and decoded batch by batch.
//!
//! - Images lie in the folder itself, or in class folders inside it. Classes are numbered by their sorted
//!   names, an empty class folder included: keep an empty folder for every class that is not in this
//!   set, so that the numbers are the model's.
//! - Images are sorted by class, then by name. What a file holds is decided by its content: PNG or JPEG.
//!   `.json`, `.txt`, `.md` and `.csv` files and hidden ones are passed over; anything else is a fault.
//! - Three-channel models take RGB, alpha dropped; one-channel models grey, `(299 R + 587 G + 114 B) / 1000`.
//!   Orientation tags are not applied.

use super::arrays::to_type;
use super::error::DataError;
use super::preprocess::Preprocess;
use super::resize::resize;
use super::{InputSpec, Limits, files};
use crate::tensor::{DType, Tensor};
use image::{DynamicImage, ImageError, ImageFormat, ImageReader};
use rayon::prelude::*;
use std::io::Cursor;
use std::path::{Path, PathBuf};

pub(super) const CONFIG: &str = "preprocessor_config.json";

/// The images of a folder, not decoded yet.
pub(super) struct Images {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    /// The SHA-256 of each, which it must still have when it is decoded.
    digests: Vec<String>,
    pub input: String,
    dtype: DType,
    channels: usize,
    preprocess: Preprocess,
    /// Height and width of every preprocessed image.
    size: [usize; 2],
    limits: Limits,
}

/// Images, their labels (where there are class folders), and all files read with their digests.
type Opened = (Images, Option<Vec<i64>>, Vec<(PathBuf, String)>);

/// Lists and hashes the images and checks their formats and sizes, without decoding them.
pub(super) fn open(folder: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<Opened, DataError> {
    let (input, channels) = image_input(folder, inputs)?;
    let config = folder.join(CONFIG);
    let text = files::read(&config, 1 << 20)?;
    let preprocess = Preprocess::parse(&config, &text, channels)?;
    let (paths, labels) = list(folder)?;

    // Collected in order, so that of several faults the first is reported, run after run.
    let probed: Vec<_> = paths.par_iter().map(|path| probe(path, &preprocess, limits)).collect();
    let probed = probed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut read = vec![(config, files::sha256(&text))];
    let size = probed.first().map_or([0, 0], |(_, size)| *size);
    let mut digests = Vec::with_capacity(paths.len());
    for (path, (sha256, found)) in paths.iter().zip(probed) {
        for (axis, name) in [(0, "height"), (1, "width")] {
            if let Some(want) = input.shape[2 + axis].filter(|&d| d != found[axis]) {
                let mut expected = found;
                expected[axis] = want;
                let because = format!("the {name} that model input `{}` takes", input.name);
                return Err(DataError::ImageSize { path: path.clone(), expected, found, because });
            }
        }
        if found != size {
            let because = format!("the size of {}", paths[0].display());
            return Err(DataError::ImageSize { path: path.clone(), expected: size, found, because });
        }
        digests.push(sha256.clone());
        read.push((path.clone(), sha256));
    }
    let (input, dtype, folder, limits) = (input.name.clone(), input.dtype, folder.to_owned(), limits.clone());
    Ok((Images { folder, paths, digests, input, dtype, channels, preprocess, size, limits }, labels, read))
}

impl Images {
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Decodes the images with these numbers into a tensor `[images, channels, height, width]`.
    pub(super) fn batch(&self, numbers: &[usize]) -> Result<Tensor, DataError> {
        let shape = [numbers.len(), self.channels, self.size[0], self.size[1]];
        let elements = shape.iter().try_fold(1, |n: usize, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        let found = (elements as u64).saturating_mul(4);
        if found > self.limits.decoded_bytes {
            let what = format!("a batch of {} images", numbers.len());
            return Err(DataError::TooLarge {
                path: self.folder.clone(),
                what,
                found,
                limit: self.limits.decoded_bytes,
            });
        }
        let mut values = vec![0f32; elements];
        let each = values.par_chunks_mut((elements / numbers.len().max(1)).max(1));
        let results: Vec<_> = each.zip(numbers).map(|(out, &number)| self.decode(number, out)).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        let tensor = ndarray::Array1::from(values).into_shape_with_order(&shape[..]).map_err(|e| {
            let (path, reason) = (self.folder.clone(), e.to_string());
            DataError::Image { path, reason }
        })?;
        to_type(Tensor::F32(tensor), self.dtype).map_err(|bad| bad.at(&self.folder, &self.input, |row| numbers[row]))
    }

    /// Decodes one image to `out`, channel by channel.
    fn decode(&self, number: usize, out: &mut [f32]) -> Result<(), DataError> {
        let path = &self.paths[number];
        let fault = |reason: String| DataError::Image { path: path.clone(), reason };
        let content = files::read(path, file_limit(&self.limits))?;
        if files::sha256(&content) != self.digests[number] {
            return Err(DataError::Changed { path: path.clone() });
        }
        let (mut reader, [height, width]) = reader(path, &content, &self.limits)?;
        let [resized, _] = plan(path, &self.preprocess, [height, width], &self.limits)?;
        reader.limits(decoder_limits(&self.limits));
        let image = reader.decode().map_err(|e| image_fault(path, e))?;
        let pixels = match self.channels {
            1 => grey(image),
            _ => image.into_rgb8().into_raw(),
        };
        let (from, to) = ((height as usize, width as usize), (resized[0], resized[1]));
        if pixels.len() != from.0 * from.1 * self.channels {
            return Err(fault("it decodes to another size than its header says".into()));
        }
        let pixels = match self.preprocess.resize {
            Some((_, filter)) if self.channels == 1 => resize::<1>(&pixels, from, to, filter),
            Some((_, filter)) => resize::<3>(&pixels, from, to, filter),
            None => pixels,
        };
        self.normalise(&pixels, resized, out);
        Ok(())
    }

    /// Crops, rescales and normalises `pixels` (row by row, channels last) into `out` (channels first).
    fn normalise(&self, pixels: &[u8], [height, width]: [usize; 2], out: &mut [f32]) {
        let channels = self.channels;
        let [rows, columns] = self.size;
        let tables: Vec<[f32; 256]> = (0..channels).map(|c| self.table(c)).collect();
        // The offset of the crop; negative, rounded down, where zeros surround the image.
        let offset = |from: usize, to: usize| (from as i64 - to as i64).div_euclid(2);
        let (top, left) = (offset(height, rows), offset(width, columns));
        let inside = |at: usize, offset: i64, end: usize| usize::try_from(at as i64 + offset).ok().filter(|&n| n < end);
        for y in 0..rows {
            let row = inside(y, top, height);
            for x in 0..columns {
                let start = row.zip(inside(x, left, width)).map(|(y, x)| (y * width + x) * channels);
                for (c, table) in tables.iter().enumerate() {
                    let value = start.and_then(|s| pixels.get(s + c)).copied().unwrap_or(0);
                    out[(c * rows + y) * columns + x] = table[usize::from(value)];
                }
            }
        }
    }

    /// What each of the 256 values of a channel becomes, in the precision that Hugging Face computes in:
    /// rescaled in f64, rounded to f32, normalised in f32.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| {
            let value = match self.preprocess.rescale {
                Some(factor) => (value as f64 * factor) as f32,
                None => value as f32,
            };
            match &self.preprocess.normalise {
                Some((mean, std)) => (value - mean[channel]) / std[channel],
                None => value,
            }
        })
    }
}

/// The only input, and how many channels it takes.
fn image_input<'a>(folder: &Path, inputs: &'a [InputSpec]) -> Result<(&'a InputSpec, usize), DataError> {
    if let [input] = inputs
        && matches!(input.dtype, DType::F32 | DType::F16 | DType::BF16)
        && let [_, channels, _, _] = input.shape[..]
        && let channels @ (1 | 3) = channels.unwrap_or(3)
    {
        return Ok((input, channels));
    }
    let found = match inputs {
        [input] => format!("one {} input of shape {}", input.dtype, super::error::spec(&input.shape)),
        _ => format!("{} inputs", inputs.len()),
    };
    Err(DataError::NotAnImageModel { path: folder.to_owned(), found })
}

/// The images in order, and their labels where there are class folders.
fn list(folder: &Path) -> Result<(Vec<PathBuf>, Option<Vec<i64>>), DataError> {
    let (mut beside, mut classes) = (Vec::new(), Vec::new());
    for name in files::entries(folder)? {
        let path = folder.join(name);
        if path.is_dir() {
            classes.push(path);
        } else if !is_note(&path) {
            beside.push(path);
        }
    }
    if classes.is_empty() {
        return Ok((beside, None));
    }
    if let Some(path) = beside.into_iter().next() {
        return Err(DataError::MixedFolder { path });
    }
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        for path in files::entries(class)?.into_iter().map(|name| class.join(name)).filter(|p| !is_note(p)) {
            if path.is_dir() {
                return Err(DataError::NestedFolder { path });
            }
            paths.push(path);
            labels.push(label as i64);
        }
    }
    Ok((paths, Some(labels)))
}

/// Whether a file is there for other purposes than being an image.
fn is_note(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| ["json", "txt", "md", "csv"].contains(&e.as_str())) && !path.is_dir()
}

/// An image's digest, and its height and width once preprocessed.
fn probe(path: &Path, preprocess: &Preprocess, limits: &Limits) -> Result<(String, [usize; 2]), DataError> {
    let content = files::read(path, file_limit(limits))?;
    let (_, [height, width]) = reader(path, &content, limits)?;
    let [_, size] = plan(path, preprocess, [height, width], limits)?;
    Ok((files::sha256(&content), size))
}

/// Height and width of an image once resized, and at the end, all within the limits.
fn plan(path: &Path, preprocess: &Preprocess, from: [u32; 2], limits: &Limits) -> Result<[[usize; 2]; 2], DataError> {
    let from = from.map(u64::from);
    let [resized, size] = preprocess.sizes(from[0], from[1]);
    check_pixels(path, "the image resized along its rows", from[0], resized.1, limits)?;
    check_pixels(path, "the resized image", resized.0, resized.1, limits)?;
    check_pixels(path, "the preprocessed image", size.0, size.1, limits)?;
    Ok([resized, size].map(|(h, w)| [h as usize, w as usize]))
}

type Reader<'a> = ImageReader<Cursor<&'a [u8]>>;

/// A reader of a PNG or JPEG image within the limits, with its height and width.
fn reader<'a>(path: &Path, content: &'a [u8], limits: &Limits) -> Result<(Reader<'a>, [u32; 2]), DataError> {
    let open = || ImageReader::new(Cursor::new(content)).with_guessed_format().map_err(DataError::io(path));
    let mut sizing = open()?;
    if !matches!(sizing.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(DataError::NotAnImage { path: path.to_owned() });
    }
    // The size first, under no limit of the decoder's but the memory for it: its faults do not say which.
    let mut bounds = decoder_limits(limits);
    (bounds.max_image_width, bounds.max_image_height) = (None, None);
    sizing.limits(bounds);
    let (width, height) = sizing.into_dimensions().map_err(|e| image_fault(path, e))?;
    check_pixels(path, "the image", height.into(), width.into(), limits)?;
    Ok((open()?, [height, width]))
}

fn check_pixels(path: &Path, what: &'static str, height: u64, width: u64, limits: &Limits) -> Result<(), DataError> {
    let limit = limits.image_pixels;
    if height.saturating_mul(width) <= limit && height.max(width) <= u64::from(u32::MAX) {
        return Ok(());
    }
    Err(DataError::TooManyPixels { path: path.to_owned(), what, height, width, limit })
}

fn image_fault(path: &Path, error: ImageError) -> DataError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error {
        ImageError::Limits(_) => DataError::ImageMemory { path, reason },
        _ => DataError::Image { path, reason },
    }
}

/// The largest image file: what the most pixels take unpacked, 16 bits a channel, and room for headers.
fn file_limit(limits: &Limits) -> u64 {
    limits.image_pixels.saturating_mul(8).saturating_add(1 << 20)
}

fn decoder_limits(limits: &Limits) -> image::Limits {
    let edge = u32::try_from(limits.image_pixels).unwrap_or(u32::MAX);
    let mut bounds = image::Limits::default();
    (bounds.max_image_width, bounds.max_image_height) = (Some(edge), Some(edge));
    // Decoders hold a few copies: coefficients, rows, the image itself.
    bounds.max_alloc = Some(limits.image_pixels.saturating_mul(32).saturating_add(64 << 20));
    bounds
}

/// Grey values as Pillow computes them from colours.
fn grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageLumaA16(_) => image.into_luma8().into_raw(),
        _ => {
            let rgb = image.into_rgb8();
            rgb.pixels()
                .map(|p| {
                    let [r, g, b] = p.0.map(u32::from);
                    ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
                })
                .collect()
        }
    }
}
