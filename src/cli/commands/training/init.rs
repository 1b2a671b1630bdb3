//! `--init`: a vector that a run continues from, and the layers that it brings.

use std::path::{Path, PathBuf};

use bipo::machine::files::sha256;
use bipo::steering::layers::Layers;
use bipo::steering::vector::SteeringVector;
use bipo::{Error, Result};

use bipo::session::Session;

/// A vector that a run continues from.
pub struct Init {
    pub path: PathBuf,
    pub name: String,
    pub sha256: String,
    pub vector: SteeringVector,
}

impl Init {
    /// `layer` is that of a file which does not say its own.
    pub fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let vector = match SteeringVector::read(path, None) {
            Err(Error::Malformed { .. }) if layer.is_some() => SteeringVector::read(path, layer)?,
            read => read?,
        };
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { path: path.to_owned(), name, sha256: sha256(path)?, vector })
    }

    pub fn layers(&self) -> Result<Layers> {
        self.vector.layers.keys().copied().collect::<Vec<_>>().try_into()
    }

    /// Returns the file's vectors one behind the other, as a run starts from them.
    pub fn start(&self, layers: &Layers, opened: &Session) -> Result<Vec<f32>> {
        let own = self.layers()?;
        if own != *layers {
            let path = self.path.display();
            return Err(Error::Argument(format!(
                "--init {path} steers layer {own}, but the run layer {layers}: they must match"
            )));
        }
        self.vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers)?;
        Ok(self.vector.layers.values().flatten().copied().collect())
    }
}
