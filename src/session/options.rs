//! What a user chooses before a model is opened.

use candle_core::{DType, Device};
use serde_json::Value;
use strum::{EnumString, VariantNames};

use crate::hub::options::OnDownload;
use crate::text::tokens::ResponsePrefix;

/// The model to open, and how it reads text and computes.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// An alias, a hub id `owner/name[@revision]`, a local directory, or a `.gguf` file.
    pub model: String,
    /// `auto`, `cpu`, `cuda[:N]` or `metal`, or several that have the blocks between them: `cuda:0,1`, `cuda:all`, `cpu:0,1`.
    pub device: String,
    /// Number of blocks on each of several devices; where it is not said, they are divided by free memory.
    pub split: Option<Vec<usize>>,
    /// Type of weights and activations.
    pub dtype: DTypeChoice,
    /// How matrices are stored.
    pub weights: WeightsChoice,
    /// Put in front of conversations that have no system prompt; an empty text is none.
    pub system: Option<String>,
    /// Whether a system prompt, also one of a conversation, goes into the first user turn: for templates that refuse it.
    pub system_in_user: bool,
    /// `auto` for the model's own chat template, the name of a built-in one, or a Jinja file.
    pub template: String,
    /// Variables that the template can refer to, beside those that all templates get.
    pub template_variables: Vec<(String, Value)>,
    /// What stands between a prompt and a response.
    pub response_prefix: ResponsePrefix,
    /// Never touch the network.
    pub offline: bool,
    /// Makes what is told how downloads go; `None` tells nobody.
    pub progress: Option<OnDownload>,
}

/// Type of weights and activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum DTypeChoice {
    /// f32 on the CPU, bf16 elsewhere.
    #[default]
    Auto,
    /// Single precision, 32 bits.
    F32,
    /// bfloat16. On the CPU, sums and residual stream are f32.
    Bf16,
    /// Half precision. On the CPU, sums and residual stream are f32.
    F16,
}

/// How matrices are stored on the CPU; other devices hold them dense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum WeightsChoice {
    /// Dense where that takes at most half of the machine's memory.
    #[default]
    Auto,
    /// Dense matrices in memory, in their dtype.
    Dense,
    /// Matrices in their file, as it has them, decoded when they are used.
    Quantized,
}

impl Default for SessionOptions {
    /// SmolLM2-135M-Instruct on the device that this build is for, downloaded without a word where it is not there.
    fn default() -> Self {
        Self {
            model: "smollm2".into(),
            device: "auto".into(),
            split: None,
            dtype: DTypeChoice::default(),
            weights: WeightsChoice::default(),
            system: None,
            system_in_user: false,
            template: "auto".into(),
            template_variables: Vec::new(),
            response_prefix: ResponsePrefix::default(),
            offline: false,
            progress: None,
        }
    }
}

impl DTypeChoice {
    /// What the choice comes to on a device.
    pub fn on(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cpu() => DType::F32,
            Self::Auto | Self::Bf16 => DType::BF16,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}
