//! Vector files of every format: how the format is recognised, and how a file is read before its layer is known.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::contents::{FileVectors, LARGEST_FILE};
use super::format::Format;
use super::{Metadata, SteeringVector, gguf, json, numpy, pt, pt_writer, safetensors};
use crate::machine::files::open_input;
use crate::steering::layers::check_layer;
use crate::{Error, Result};

/// The bytes of a vector file, and the metadata that they leave out.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Content of the file.
    pub bytes: Vec<u8>,
    /// Metadata keys of the vector that the format cannot hold.
    pub lost: Vec<&'static str>,
}

impl SteeringVector {
    /// Returns the bytes of a file of this format. `path` is only used in messages.
    ///
    /// # Errors
    /// The format cannot hold a layer of the vector, or cannot hold several layers; or the model of the vector lacks a layer.
    pub fn encode(&self, format: Format, path: &Path) -> Result<Encoded> {
        if let (Some(layer), Some(depth)) = (self.layers.keys().next_back(), self.metadata.num_hidden_layers) {
            check_layer(*layer, depth, "the vector's model")?;
        }
        let bytes = match format {
            Format::Safetensors => safetensors::to_bytes(self),
            Format::Pt => pt_writer::to_bytes(self.only(path)?, path)?,
            Format::Gguf => gguf::to_bytes(self, path)?,
            Format::Svec => json::to_svec(self),
            Format::Npy => numpy::to_bytes(self.only(path)?),
            Format::Json => json::to_bytes(self),
        };
        Ok(Encoded { bytes, lost: format.lost(self) })
    }

    /// Returns the vector of the only layer, for formats that hold one vector.
    fn only(&self, path: &Path) -> Result<&[f32]> {
        match self.layers.values().collect::<Vec<_>>().as_slice() {
            [v] => Ok(v),
            _ => Err(Error::Argument(format!(
                "{}: the format holds one vector, but there are {} (layers {}): write .safetensors, .gguf, .svec or .json",
                path.display(),
                self.layers.len(),
                list(self.layers.keys())
            ))),
        }
    }
}

/// A vector file as it was read. The layer of its vector may not be known yet.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Format that the content has.
    pub format: Format,
    /// SHA-256 of the file's bytes in hex.
    pub sha256: String,
    vectors: FileVectors,
    metadata: Metadata,
}

impl VectorFile {
    /// Reads a file. Its content decides the format, not its name. No code in the file is ever run.
    ///
    /// # Errors
    /// The file cannot be read, is broken, or is of another kind.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_limited(path)?;
        let unplaced = |v| (FileVectors::Unplaced(v), Metadata::default());
        let (format, (vectors, metadata)) = match bytes.as_slice() {
            [b'G', b'G', b'U', b'F', ..] => (Format::Gguf, gguf::read(path)?),
            [b'P', b'K', 3, 4, ..] => (Format::Pt, pt::read(path, &bytes)?),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => (Format::Npy, unplaced(numpy::read(path, &bytes)?)),
            _ if is_safetensors(&bytes) => (Format::Safetensors, safetensors::read(path, &bytes)?),
            _ if json::is_json(&bytes) => json::read(path, &bytes)?,
            _ => return Err(unknown(path, &bytes)),
        };
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = Self { path: path.to_path_buf(), format, sha256, vectors, metadata };
        file.check()?;
        Ok(file)
    }

    /// Whether the file has keys that bipo does not know, which a file that bipo writes has not.
    pub fn has_unknown_keys(&self) -> bool {
        !self.metadata.unknown_keys.is_empty()
    }

    /// Returns the layers that the file says it steers; the list is empty if the file does not say.
    pub fn layers(&self) -> Vec<usize> {
        match &self.vectors {
            FileVectors::Placed(layers) => layers.keys().copied().collect(),
            FileVectors::Unplaced(_) => Vec::new(),
        }
    }

    /// Returns a note for the user if `layer` is another than the one at which the file says that the vector was learned. A layer that
    /// the model of the file does not have is no place to learn one, and is refused by [`SteeringVector::check_model`].
    pub fn moved_note(&self, layer: Option<usize>) -> Option<String> {
        let (to, [own]) = (layer?, <[usize; 1]>::try_from(self.layers()).ok()?);
        let is_there = self.metadata.num_hidden_layers.is_none_or(|depth| to < depth);
        (to != own && is_there).then(|| {
            format!(
                "learned at layer {own} and added at layer {to}, where residuals mean other things and have another length: keep \
                 its own layer, or learn one at layer {to}"
            )
        })
    }

    /// Returns the vector. If `layer` is given, it overrides the layer that the file says; a calibration is then no longer known.
    ///
    /// # Errors
    /// Neither the file nor `layer` says a layer, or the file holds several vectors and `layer` is given.
    pub fn at(self, layer: Option<usize>) -> Result<SteeringVector> {
        match (&self.vectors, layer) {
            (FileVectors::Placed(layers), Some(_)) if layers.len() > 1 => {
                let found = list(layers.keys());
                Err(Error::malformed(&self.path, format!("holds vectors for layers {found}: only a single one can be moved")))
            }
            (FileVectors::Placed(_), Some(layer)) => {
                let mut vector = self.or_at(None)?;
                if !vector.layers.contains_key(&layer) {
                    if vector.metadata.condition.is_some() {
                        let problem = "it is a condition, whose threshold holds for its own layer: it cannot be moved";
                        return Err(Error::Argument(problem.into()));
                    }
                    // How strong it may be there was not measured.
                    vector.metadata.calibration = None;
                }
                let layers = vector.layers.into_values().map(|v| (layer, v)).collect();
                Ok(SteeringVector { layers, ..vector })
            }
            _ => self.or_at(layer),
        }
    }

    /// Returns the vector, at `layer` if the file does not say which layer it steers.
    ///
    /// # Errors
    /// Neither the file nor `layer` says a layer.
    pub fn or_at(self, layer: Option<usize>) -> Result<SteeringVector> {
        let layers = match (self.vectors, layer) {
            (FileVectors::Placed(layers), _) => layers,
            (FileVectors::Unplaced(v), Some(layer)) => BTreeMap::from([(layer, v)]),
            (FileVectors::Unplaced(_), None) => {
                return Err(Error::malformed(&self.path, "does not say which layer it steers"));
            }
        };
        Ok(SteeringVector { layers, metadata: self.metadata })
    }

    fn check(&self) -> Result<()> {
        let malformed = |problem: String| Err(Error::malformed(&self.path, problem));
        let hidden = self.named().next().map_or(0, |(_, v)| v.len());
        if hidden == 0 {
            return malformed("holds no vector".to_owned());
        }
        if let Some((name, v)) = self.named().find(|(_, v)| v.len() != hidden) {
            return malformed(format!("{name} has {} elements, another has {hidden}", v.len()));
        }
        match (self.layers().last(), self.metadata.num_hidden_layers) {
            (Some(layer), Some(depth)) if *layer >= depth => {
                malformed(format!("steers layer {layer} of a model of {depth} layers"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a file that a model cannot be steered with.
    ///
    /// # Errors
    /// An element is NaN or infinite. The message names its layer and index.
    pub(crate) fn check_finite(&self) -> Result<()> {
        for (name, v) in self.named() {
            if let Some(index) = v.iter().position(|x| !x.is_finite()) {
                let problem = format!("{name} has an element that is not finite (index {index}): expected f32 numbers");
                return Err(Error::malformed(&self.path, problem));
            }
        }
        Ok(())
    }

    /// Returns each vector with its name for messages.
    fn named(&self) -> impl Iterator<Item = (String, &Vec<f32>)> {
        let (placed, unplaced) = match &self.vectors {
            FileVectors::Placed(layers) => (Some(layers), None),
            FileVectors::Unplaced(v) => (None, Some(v)),
        };
        let placed = placed.into_iter().flatten().map(|(layer, v)| (format!("layer {layer}"), v));
        placed.chain(unplaced.map(|v| ("the vector".to_owned(), v)))
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let read = |source| Error::read(path, source);
    let file = open_input(path)?;
    let size = file.metadata().map_err(read)?.len();
    let mut bytes = Vec::new();
    if size <= LARGEST_FILE {
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    }
    if size > LARGEST_FILE || bytes.len() as u64 > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        return Err(Error::malformed(path, format!("more than {limit} MiB, too large for a steering vector: is it a model?")));
    }
    Ok(bytes)
}

/// Whether a file is safetensors: eight bytes with the length of the header, then the header, which is JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

fn unknown(path: &Path, bytes: &[u8]) -> Error {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    // PyTorch's legacy format begins with a pickle too.
    let pickle = matches!(bytes, [0x80, 0..=5, ..]);
    match extension {
        _ if pickle => pt::legacy(path),
        "pt" | "pth" | "bin" => pt::legacy(path),
        _ => Error::malformed(
            path,
            "not a steering vector that bipo reads: expected safetensors, .pt, GGUF, .npy, .svec or JSON, whole and unbroken",
        ),
    }
}

/// Lists layer numbers for a message.
pub(super) fn list<'a>(layers: impl Iterator<Item = &'a usize>) -> String {
    let mut layers = layers.map(usize::to_string);
    let first: Vec<String> = layers.by_ref().take(8).collect();
    let more = if layers.next().is_some() { ", …" } else { "" };
    first.join(", ") + more
}
