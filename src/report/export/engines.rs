//! What is known of each engine, as a table: what it is told, which commands start it and ask it, what it can do, and where it does not
//! work. The facts were read in the engines' sources; docs/engines.md says which versions, and what was run.

use super::files::{self, Files};
use super::tokens::Tokens;
use super::{Export, ExportTarget};
use crate::Result;

/// How an engine steers.
pub(super) struct EngineGuide {
    /// Name of the engine with a link, and what it is.
    pub about: &'static str,
    /// How the engine takes the vector and its factor.
    pub how: &'static str,
    /// Whether it can steer these tokens and no others.
    pub can: fn(Tokens) -> bool,
    pub takes_out: TakesOut,
    /// Whether it can steer the output of the first block.
    pub has_layer_0: bool,
    /// Files that the engine reads.
    pub files: fn(&Export) -> Result<Files>,
    /// What the user does, in order.
    pub steps: &'static [GuideStep],
    /// What the engine cannot do, a sentence each.
    pub limits: &'static [&'static str],
}

/// How much of what lies along a vector an engine can take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakesOut {
    /// The engine can only add.
    Nothing,
    /// The engine can take out all of it.
    Whole,
    /// The engine can take out the share that the magnitude says.
    AnyShare,
}

/// A command to run. `readme` fills its names in braces in.
pub(super) struct GuideStep {
    pub what: &'static str,
    pub command: &'static str,
    pub is_installation: bool,
}

impl GuideStep {
    const fn installation(command: &'static str) -> Self {
        Self { what: "Install", command, is_installation: true }
    }

    const fn new(what: &'static str, command: &'static str) -> Self {
        Self { what, command, is_installation: false }
    }
}

impl EngineGuide {
    pub fn of(target: ExportTarget) -> &'static Self {
        match target {
            ExportTarget::VllmLens => &VLLM_LENS,
            ExportTarget::EasySteer => &EASY_STEER,
            ExportTarget::VllmMerged => &VLLM_MERGED,
            ExportTarget::LlamaCpp => &LLAMA_CPP,
            ExportTarget::LmEval => &LM_EVAL,
            ExportTarget::Pyvene => &PYVENE,
        }
    }
}

const ASK: &str = "curl http://localhost:8000/v1/chat/completions -H 'content-type: application/json' -d @request.json";

static VLLM_LENS: EngineGuide = EngineGuide {
    about: "[vllm-lens](https://github.com/UKGovernmentBEIS/vllm-lens), a plugin of vLLM",
    how: "Each request carries the vector, in `vllm_xargs.apply_steering_vectors`, a JSON text; its `scale` is the magnitude, 0 is the \
          untouched model.",
    can: Tokens::are_all,
    takes_out: TakesOut::Nothing,
    has_layer_0: true,
    files: files::of_vllm_lens,
    steps: &[
        GuideStep::installation("pip install vllm-lens"),
        GuideStep::new("Start the server", "vllm serve {model} --no-enable-prefix-caching"),
        GuideStep::new("Ask it", ASK),
    ],
    limits: &[
        "The vector is added at every token. The plugin has a rule for absolute token indices, but none for the prompt or the answer.",
        "Keep `--no-enable-prefix-caching`: a steered request reads no cached keys and values, but leaves its own in the cache, from \
         which a request without the vector that begins with the same tokens would be answered.",
        "The plugin turns CUDA graphs off (`enforce_eager`), and needs vLLM's V1 model runner: it sets `VLLM_USE_V2_MODEL_RUNNER=0`, \
         and refuses to start if you set 1. Each release names the version of vLLM that it was made for.",
        "A `norm_match` of true would scale the vector to the length of the residual: leave it false.",
    ],
};

static EASY_STEER: EngineGuide = EngineGuide {
    about: "[EasySteer](https://github.com/ZJU-REAL/EasySteer), a fork of vLLM",
    how: "Each request names the vector in its field `steering`; `scale` there is the magnitude, and a request without the field is \
          not steered.",
    can: |_| true,
    takes_out: TakesOut::Whole,
    has_layer_0: true,
    files: files::of_easysteer,
    steps: &[
        GuideStep::installation(
            "git clone https://github.com/ZJU-REAL/EasySteer  # then docs/getting-started/installation.md there",
        ),
        GuideStep::new(
            "Start the server in this folder",
            "vllm serve {model} --enable-steer-vector --steer-algorithms {algorithm}",
        ),
        GuideStep::new("Ask it", ASK),
    ],
    limits: &[
        "`source` is a path on the server, which is why the server is started in this folder. A vector for layer 0 is in the request \
         itself, as `data`: the files begin at block 1.",
        "Only algorithms that the server was started with are accepted: `direct` adds, `erase` takes out all that lies along the \
         vector, whatever the `scale`.",
        "The fields are those of its version for vLLM 0.26 and later. Earlier ones have `phases` in `apply`, or the flag \
         `--steer-vector-path`.",
        "The rules `first:N` and spans, which count from what a chat template begins with, cannot be said: the vector is then added at \
         every token.",
    ],
};

static VLLM_MERGED: EngineGuide = EngineGuide {
    about: "[vLLM](https://github.com/vllm-project/vllm) without a plugin",
    how: "The folder is a copy of the model in which the bias of an MLP carries the vector times the magnitude. `config.json` says \
          `mlp_bias`, without which vLLM drops the bias without a word.",
    can: Tokens::are_all,
    takes_out: TakesOut::Nothing,
    has_layer_0: true,
    files: files::of_merged,
    steps: &[
        GuideStep::installation("pip install vllm"),
        GuideStep::new("Start the server in this folder", "vllm serve . --served-model-name {served}"),
        GuideStep::new("Ask it", ASK),
    ],
    limits: &[
        "The magnitude is in the weights: another one is another export. All requests are steered.",
        "`transformers` and bipo read the bias, too. SGLang and TensorRT-LLM drop it without a word, MLC does not load the model.",
        "Only Llama, Granite and SmolLM3 have such a bias. Mistral and Qwen2 are written as `LlamaForCausalLM`, which computes the same \
         where no sliding window is active. vLLM runs SmolLM3 by its backend for models of `transformers`.",
        "A LoRA adapter cannot carry the vector: vLLM has no bias in adapters since its pull request 25807.",
    ],
};

static LLAMA_CPP: EngineGuide = EngineGuide {
    about: "[llama.cpp](https://github.com/ggml-org/llama.cpp)",
    how: "The vector is a control vector; its factor stands behind the file's name in the flag `--control-vector-scaled`, and `FILE:0` \
          is the untouched model.",
    can: Tokens::are_all,
    takes_out: TakesOut::Nothing,
    has_layer_0: false,
    files: files::of_llama_cpp,
    steps: &[
        GuideStep::new("Talk to it", "llama-cli -m {gguf} --control-vector-scaled vector.gguf:{magnitude}"),
        GuideStep::new("Or start the server", "llama-server -m {gguf} --control-vector-scaled vector.gguf:{magnitude}"),
        GuideStep::new(
            "Ask the server",
            "curl http://localhost:8080/v1/chat/completions -H 'content-type: application/json' -d @request.json",
        ),
    ],
    limits: &[
        "The vector is added at every token, in every request: the flag is read at the start.",
        "Older builds take the factor as a word of its own: `--control-vector-scaled vector.gguf {magnitude}`.",
        "The model's file must be of the model that the vector was learned on, in any quantisation.",
        "Layer 0 cannot be steered: directions begin at block 1.",
    ],
};

static LM_EVAL: EngineGuide = EngineGuide {
    about: "[lm-evaluation-harness](https://github.com/EleutherAI/lm-evaluation-harness)",
    how: "`steer.pt` has the vector, the module whose output it changes, and the magnitude as `steering_coefficient`.",
    can: Tokens::are_all,
    takes_out: TakesOut::Whole,
    has_layer_0: true,
    files: files::of_lm_eval,
    steps: &[
        GuideStep::installation("pip install 'lm_eval[hf]'"),
        GuideStep::new(
            "Measure the steered model",
            "lm_eval --model steered --model_args pretrained={model},steer_path=steer.pt --tasks truthfulqa_mc2 --apply_chat_template --batch_size 8",
        ),
        GuideStep::new(
            "Measure the model without it",
            "lm_eval --model hf --model_args pretrained={model} --tasks truthfulqa_mc2 --apply_chat_template --batch_size 8",
        ),
    ],
    limits: &[
        "The vector is used at every token: of the question, of the examples before it, and of the answer.",
        "Versions 0.4.8 to 0.4.9.1 add, of vectors for several layers, the last at each of these layers; earlier ones have no model \
         `steered`.",
        "`--apply_chat_template` asks as bipo does; without it, the model gets the bare text of the task.",
        "A Gemma 3 that also reads pictures has its blocks elsewhere (`language_model.layers.N`): the model `steered` then ends with \
         \"Not all hookpoints could be resolved\".",
        "The factor is in the file: for another one, export again with another --magnitude.",
    ],
};

static PYVENE: EngineGuide = EngineGuide {
    about: "[pyvene](https://github.com/stanfordnlp/pyvene)",
    how: "`steer.py` wraps a model of `transformers` in an `IntervenableModel` that changes the outputs of the steered blocks; the \
          magnitude is its second argument.",
    can: Tokens::are_of_one_kind,
    takes_out: TakesOut::AnyShare,
    has_layer_0: true,
    files: files::of_pyvene,
    steps: &[
        GuideStep::installation("pip install pyvene"),
        GuideStep::new("Run the example in this folder", "python steer.py {prompt} {magnitude}"),
    ],
    limits: &[
        "One call cannot steer a part of the prompt and the generated tokens together (`last+response`), nor what only a template's \
         tokens tell (`first:N`, spans): the vector is then used at every token.",
        "A Gemma 3 that also reads pictures has its blocks elsewhere: write `model.language_model.layers` for `model.layers` in \
         `steer.py`.",
        "`IntervenableModel` turns the gradients of the model's weights off.",
    ],
};
