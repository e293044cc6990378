//! What `preprocessor_config.json` says, as Hugging Face's image processors carry it out on decoded
//! images: resize, centre crop, rescale, normalise, in this order.

use super::error::DataError;
use super::resize::Filter;
use serde_json::Value;
use std::path::Path;

/// How images become model inputs.
#[derive(Clone, Debug)]
pub(super) struct Preprocess {
    pub resize: Option<(Resize, Filter)>,
    /// Height and width of the centre crop; where the image is smaller, zeros (black) surround it.
    pub crop: Option<(u64, u64)>,
    /// Factor on the values 0 to 255.
    pub rescale: Option<f64>,
    /// Mean and standard deviation per channel.
    pub normalise: Option<(Vec<f32>, Vec<f32>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resize {
    /// To this height and width, whatever the aspect ratio.
    Exact(u64, u64),
    /// The shorter edge to this, the longer by the same ratio, rounded down.
    Shortest(u64),
}

/// What the processors differ in where the configuration is silent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Any size, no crop: ViT, and files that name no processor.
    Vit,
    /// An exact size, then a crop: DeiT.
    Deit,
    /// The shortest edge, then a crop: CLIP, BiT.
    Clip,
    /// A crop by percentage below 384 pixels, none above: ConvNeXT.
    ConvNext,
}

impl Preprocess {
    /// Reads a configuration for images of `channels` channels. `path` is for messages.
    pub(super) fn parse(path: &Path, text: &[u8], channels: usize) -> Result<Self, DataError> {
        let json: Value = serde_json::from_slice(text).map_err(|e| fault(path, "(the file)", &e.to_string()))?;
        let Value::Object(_) = json else { return Err(fault(path, "(the file)", "expected a JSON object")) };
        let config = Config { path, json: &json };
        let family = config.family()?;
        config.refuse_unknown_steps()?;

        let filter = config.resample(if matches!(family, Family::Deit | Family::Clip) { 3 } else { 2 })?;
        let (mut resize, mut crop) = (None, None);
        if config.flag("do_resize", true)? {
            resize = Some((config.size(family)?, filter));
        }
        let named = config.get("image_processor_type").or(config.get("feature_extractor_type")).is_some();
        let crops = match family {
            Family::Deit | Family::Clip => true,
            _ => !named && config.get("crop_size").is_some(),
        };
        match (family, &resize) {
            (Family::ConvNext, Some((Resize::Shortest(edge), filter))) => {
                let edge = *edge;
                if edge < 384 {
                    let percent = config.number("crop_pct")?.unwrap_or(224.0 / 256.0);
                    if !(percent > 0.0 && percent <= 1.0) {
                        return Err(fault(path, "crop_pct", "expected a number above 0, at most 1"));
                    }
                    (resize, crop) =
                        (Some((Resize::Shortest((edge as f64 / percent) as u64), *filter)), Some((edge, edge)));
                } else {
                    resize = Some((Resize::Exact(edge, edge), *filter));
                }
            }
            (Family::ConvNext, _) => {}
            _ if config.flag("do_center_crop", crops)? => {
                crop = Some(config.rectangle("crop_size")?.ok_or_else(|| {
                    fault(
                        path,
                        "crop_size",
                        "expected a number or {\"height\": …, \"width\": …}, as do_center_crop is set",
                    )
                })?);
            }
            _ => {}
        }
        let rescale = match config.flag("do_rescale", true)? {
            true => Some(config.number("rescale_factor")?.unwrap_or(1.0 / 255.0)),
            false => None,
        };
        let normalise = match config.flag("do_normalize", true)? {
            true => Some((config.per_channel("image_mean", channels)?, config.per_channel("image_std", channels)?)),
            false => None,
        };
        if normalise.as_ref().is_some_and(|(_, std)| std.contains(&0.0)) {
            return Err(fault(path, "image_std", "a standard deviation is zero"));
        }
        Ok(Preprocess { resize, crop, rescale, normalise })
    }

    /// Height and width after resizing, and at the end, of an image of `height` and `width` (not zero).
    pub(super) fn sizes(&self, height: u64, width: u64) -> [(u64, u64); 2] {
        let resized = match self.resize {
            Some((Resize::Exact(h, w), _)) => (h, w),
            Some((Resize::Shortest(edge), _)) => {
                let long = |long: u64, short: u64| (edge as f64 * long as f64 / short as f64) as u64;
                if height <= width { (edge, long(width, height)) } else { (long(height, width), edge) }
            }
            None => (height, width),
        };
        [resized, self.crop.unwrap_or(resized)]
    }
}

fn fault(path: &Path, key: &str, reason: &str) -> DataError {
    DataError::Config { path: path.to_owned(), key: key.to_owned(), reason: reason.to_owned() }
}

/// A configuration; `null` is the same as absent.
struct Config<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl<'a> Config<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn unsupported(&self, key: &str, found: &Value) -> DataError {
        DataError::ConfigUnsupported { path: self.path.to_owned(), key: key.to_owned(), found: found.to_string() }
    }

    fn family(&self) -> Result<Family, DataError> {
        let key =
            if self.get("image_processor_type").is_some() { "image_processor_type" } else { "feature_extractor_type" };
        let Some(value) = self.get(key) else { return Ok(Family::Vit) };
        let name = value.as_str().unwrap_or_default();
        let name = name.strip_suffix("Fast").unwrap_or(name);
        let name = name.strip_suffix("ImageProcessor").or(name.strip_suffix("FeatureExtractor")).unwrap_or(name);
        match name {
            "ViT" => Ok(Family::Vit),
            "DeiT" => Ok(Family::Deit),
            "CLIP" | "Bit" => Ok(Family::Clip),
            "ConvNext" => Ok(Family::ConvNext),
            _ => Err(self.unsupported(key, value)),
        }
    }

    /// The fault that the configuration asks for a step that is not carried out here.
    fn refuse_unknown_steps(&self) -> Result<(), DataError> {
        const KNOWN: [&str; 5] = ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"];
        for (key, value) in self.json.as_object().into_iter().flatten() {
            let step = key.starts_with("do_") && !KNOWN.contains(&key.as_str());
            if (step || key == "rescale_offset") && !matches!(value, Value::Null | Value::Bool(false)) {
                return Err(self.unsupported(key, value));
            }
        }
        Ok(())
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, DataError> {
        self.get(key)
            .map_or(Ok(default), |v| v.as_bool().ok_or_else(|| fault(self.path, key, "expected true or false")))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, DataError> {
        let number = |v: &Value| v.as_f64().filter(|x| x.is_finite());
        self.get(key).map(|v| number(v).ok_or_else(|| fault(self.path, key, "expected a finite number"))).transpose()
    }

    /// A count of pixels, from 1 to a million.
    fn pixels(&self, key: &str, value: &Value) -> Result<u64, DataError> {
        value
            .as_u64()
            .filter(|n| (1..=1_000_000).contains(n))
            .ok_or_else(|| fault(self.path, key, "expected a whole number of pixels, from 1 to 1000000"))
    }

    /// `N` or `{"height": H, "width": W}`.
    fn rectangle(&self, key: &str) -> Result<Option<(u64, u64)>, DataError> {
        match (self.get(key), self.get(key).and_then(|v| Some((v.get("height")?, v.get("width")?)))) {
            (None, _) => Ok(None),
            (_, Some((h, w))) => Ok(Some((self.pixels(key, h)?, self.pixels(key, w)?))),
            (Some(v), None) => self.pixels(key, v).map(|n| Some((n, n))),
        }
    }

    fn size(&self, family: Family) -> Result<Resize, DataError> {
        let size = self.get("size").ok_or_else(|| {
            fault(
                self.path,
                "size",
                "missing; expected a number, {\"height\": …, \"width\": …} or {\"shortest_edge\": …}",
            )
        })?;
        if size.is_object() && size.get("height").is_none() {
            let key = |k: &&String| k.as_str() != "shortest_edge";
            if size.as_object().is_some_and(|o| o.keys().any(|k| key(&k))) {
                return Err(self.unsupported("size", size));
            }
            return self.pixels("size", size.get("shortest_edge").unwrap_or(size)).map(Resize::Shortest);
        }
        match self.rectangle("size")? {
            Some((edge, _)) if size.is_number() && matches!(family, Family::Clip | Family::ConvNext) => {
                Ok(Resize::Shortest(edge))
            }
            Some((h, w)) => Ok(Resize::Exact(h, w)),
            None => Err(self.unsupported("size", size)),
        }
    }

    /// The filter by its number in Pillow.
    fn resample(&self, default: u64) -> Result<Filter, DataError> {
        let number = self.get("resample").map_or(Some(default), Value::as_u64);
        let filter = number.and_then(Filter::from_number);
        filter.ok_or_else(|| fault(self.path, "resample", "expected a filter number from 0 to 5"))
    }

    /// A number per channel, or one for all of them.
    fn per_channel(&self, key: &str, channels: usize) -> Result<Vec<f32>, DataError> {
        let wrong = || fault(self.path, key, &format!("expected {channels} finite numbers, as do_normalize is set"));
        let number = |v: &Value| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        let numbers: Option<Vec<f32>> = match self.get(key).ok_or_else(wrong)? {
            Value::Array(all) => all.iter().map(number).collect(),
            one => number(one).map(|x| vec![x; channels]),
        };
        numbers.filter(|n| n.len() == channels).ok_or_else(wrong)
    }
}
