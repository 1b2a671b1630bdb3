//! Personalise a frozen large language model with one steering vector.
//!
//! A vector `v` of the model's hidden size is added, times a factor, to the residual stream after decoder block `L`. It is
//! learned by bi-directional preference optimisation (BiPO, [arXiv 2406.00045](https://arxiv.org/abs/2406.00045)) from pairs
//! of a response that shows a behaviour and one that shows the opposite.
//!
//! # Learn a vector, and steer with it
//!
//! A [`Session`](session::Session) is a model ready to use. Its weights are read once it is told what else takes memory, a
//! [`Demand`](session::Demand). The model here is a tiny one with random weights; an alias, a hub id, a folder or a `.gguf` file
//! names any other.
//!
//! ```
//! use bipo::data::{Message, Pair};
//! use bipo::generate::{GenerateOptions, generate};
//! use bipo::session::{Demand, Session, SessionOptions};
//! use bipo::train::{TrainConfig, learn};
//!
//! # fn main() -> bipo::Result<()> {
//! let name = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama");
//! let session = Session::open(SessionOptions { model: name.into(), ..SessionOptions::default() })?;
//! let question = vec![Message::new("user", "How was your day?")];
//! let prompt = session.encoder.encode_prompt(&question)?;
//! let pair = Pair { row: 0, prompt: question, chosen: "Wonderful!".into(), rejected: "Dull.".into() };
//! let (pair, _) = session.encoder.encode_pair(&pair, 512)?;
//!
//! let config = TrainConfig { max_steps: Some(2), warmup_steps: 0, ..TrainConfig::at(1) };
//! let demand = Demand::training(&[&[pair.clone()]], config.layers.as_slice(), config.batch_size);
//! let model = session.load(&demand.and_generation(3, prompt.ids.len(), 20))?.model;
//! let outcome = learn(&model, &[pair], &config)?;
//! # assert_eq!(outcome.steps, 2);
//! # assert!(outcome.v.iter().any(|x| *x != 0.0));
//!
//! let vectors = config.layers.split(&outcome.v);
//! for text in generate(&model, &prompt, &vectors, &[-1.0, 0.0, 1.0], &GenerateOptions::greedy(20), &mut |_, _| Ok(()))? {
//!     println!("{:+}: {}", text.magnitude, session.encoder.text_of(&text.token_ids)?);
//!     # assert_eq!(text.token_ids.len(), 20);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Steer alone
//!
//! One text is generated for each magnitude, all of them as one batch, each up to the model's own end of text.
//! [`SteeringVector::read`](steering::vector::SteeringVector::read) reads a vector from a file.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bipo::generate::{GenerateOptions, generate};
//! use bipo::session::{Demand, Session, SessionOptions};
//! use bipo::data::Message;
//!
//! # fn main() -> bipo::Result<()> {
//! # let name = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama");
//! let session = Session::open(SessionOptions { model: name.into(), ..SessionOptions::default() })?;
//! let prompt = session.encoder.encode_prompt(&[Message::new("user", "How was your day?")])?;
//! let magnitudes = [-2.0, 0.0, 2.0];
//! let model = session.load(&Demand::generation(magnitudes.len(), prompt.ids.len(), 20))?.model;
//!
//! let vectors = BTreeMap::from([(1, vec![0.5; model.config.hidden_size])]); // by layer
//! let options = GenerateOptions { eos: session.tokens.eos.clone(), ..GenerateOptions::greedy(20) };
//! for text in generate(&model, &prompt, &vectors, &magnitudes, &options, &mut |_, _| Ok(()))? {
//!     println!("{:+}: {}", text.magnitude, session.encoder.text_of(&text.token_ids)?);
//!     # assert!(!text.token_ids.is_empty());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Evaluate a vector
//!
//! How far a vector moves held-out pairs in each direction, with the interval of its margin. Questions, a neutral text and prompts are
//! further material of [`EvalMaterial`](eval::EvalMaterial), and [`eval::baseline`] has vectors to compare with.
//!
//! ```
//! use bipo::data::{Message, Pair};
//! use bipo::eval::bootstrap::Bootstrap;
//! use bipo::eval::{EvalMaterial, Settings, Subject, Treatment, demand, evaluate};
//! use bipo::generate::GenerateOptions;
//! use bipo::session::{Session, SessionOptions};
//! use bipo::steering::vector::{Metadata, SteeringVector};
//! use bipo::train::collective::Collective;
//!
//! # fn main() -> bipo::Result<()> {
//! # let name = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama");
//! let session = Session::open(SessionOptions { model: name.into(), ..SessionOptions::default() })?;
//! let context = session.config.max_position_embeddings;
//! let pair = |row, question: &str, chosen: &str, rejected: &str| {
//!     let prompt = vec![Message::new("user", question)];
//!     Pair { row, prompt, chosen: chosen.into(), rejected: rejected.into() }
//! };
//! let pairs = [pair(0, "How was your day?", "Wonderful!", "Dull."), pair(1, "Shall we go?", "Yes!", "No.")];
//! let material = EvalMaterial { pairs: &pairs, max_length: context, context, ..EvalMaterial::default() };
//!
//! let layers = [(1, vec![0.5; session.config.hidden_size])].into();
//! let vector = Box::new(SteeringVector { layers, metadata: Metadata::default() });
//! let treatment = Treatment::Vector(vector, vec![-1.0, 0.0, 1.0]);
//! let encoded = material.encode(&session.encoder, Vec::new())?;
//! let subjects = [Subject { name: "vector".into(), treatment, encoded }];
//! let settings = Settings {
//!     beta: 0.1,
//!     bootstrap: Bootstrap { resamples: 1000, seed: 11 },
//!     when: None,
//!     generate: GenerateOptions::greedy(20),
//!     streams: 3,
//!     collective: Collective::default(),
//! };
//! let model = session.load(&demand(&subjects, settings.streams, 20, &settings.collective))?.model;
//! let outcome = evaluate(&model, &session.encoder, &material, &subjects, &settings, &mut ())?;
//! for row in &outcome.rows {
//!     if let (Some(magnitude), Some(margin)) = (row.magnitude, row.get("margin")) {
//!         println!("{magnitude:+}: margin {:+.3} [{:+.3}, {:+.3}]", margin.estimate.value, margin.estimate.low, margin.estimate.high);
//!     }
//! }
//! # let margins: Vec<f64> = outcome.rows.iter().map(|row| row.get("margin").unwrap().estimate.value).collect();
//! # assert!(margins.len() == 3 && margins[0] != 0.0 && margins[1] == 0.0 && margins[2] != 0.0, "{margins:?}");
//! # Ok(())
//! # }
//! ```
//!
//! # Read a vector
//!
//! The content of a file decides its format, not its name; this one is of PyTorch, as the authors' scripts save it.
//!
//! ```
//! use std::path::Path;
//!
//! use bipo::steering::dose::l2_norm;
//! use bipo::steering::vector::SteeringVector;
//!
//! # fn main() -> bipo::Result<()> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vectors/dict.pt");
//! let vector = SteeringVector::read(Path::new(file), None)?;
//! for (layer, v) in &vector.layers {
//!     println!("layer {layer}: {} numbers of length {:.3}", v.len(), l2_norm(v));
//! }
//! # assert_eq!(vector.layers, [(5, vec![1.0, -2.0, 0.5, 3.0])].into());
//! # Ok(())
//! # }
//! ```
//!
//! # The rooms
//!
//! The front door are [`session`], [`data`], [`text`], [`train`], [`steering`], [`generate`], [`eval`] and [`report`]. The
//! other rooms are what they are built of; the program, its benchmarks and tests enter them too.
//!
//! Read the rooms in the order in which data flows:
//!
//! ```text
//! train   dataset row ─▶ chat template ─▶ token ids + response span ─▶ blocks 0..=L (once a pair, cached)
//!         ─▶ +d·v ─▶ blocks L+1.. ─▶ log-probs of the response ─▶ objective ─▶ ∂/∂v ─▶ AdamW ─▶ safetensors
//!
//! steer   prompt ─▶ chat template ─▶ token ids ─▶ blocks 0..=L (once) ─▶ one branch a magnitude: +m·v
//!         ─▶ blocks L+1.. ─▶ sampler ─▶ next token of every branch in one batch ─▶ text
//! ```
//!
//! Rooms import only rooms below them:
//!
//! | room | what it holds |
//! |---|---|
//! | `serve` | the HTTP server and its page (feature `serve`, on by default) |
//! | [`check`] | whether a device computes what the CPU does, and how fast |
//! | [`eval`] | what a vector does, and what it costs |
//! | [`report`] | charts, pages, the model card |
//! | [`train`] | activations, objective, optimiser, loop, checkpoints, layer search, mean difference |
//! | [`generate`] | decoding at a sweep of magnitudes |
//! | [`session`] | a model ready to use, and the memory that it takes |
//! | [`steering`] | the vector and its formats, layers, positions, magnitudes, merging |
//! | [`text`] | chat templates, tokenizers, encoded pairs and prompts |
//! | [`data`] | preference pairs and questions |
//! | [`hub`] | where files come from |
//! | [`model`] | the decoder |
//! | [`ops`] | its operations, forward and backward |
//! | [`machine`] | device, memory, files |
//!
//! # Glossary
//!
//! - **layer** `L`: 0-based index of a decoder block; the vector is added to its *output*.
//! - **magnitude** `m`: the factor on the vector in generation. **direction** `d`: the same factor in training, ±1.
//! - **chosen** / **rejected**: the response that shows the target behaviour / the opposite one.
//! - **margin**: β·\[(log π_d(chosen) − log π(chosen)) − (log π_d(rejected) − log π(rejected))\].
//!
//! Shapes in comments: `B` sequences, `T` tokens, `H` hidden, `N` heads, `K` key-value heads, `D` head dimension, `I`
//! intermediate size, `V` vocabulary, `M` magnitudes.

pub mod check;
pub mod data;
pub mod eval;
pub mod generate;
pub mod hub;
pub mod machine;
pub mod model;
pub mod ops;
pub mod report;
#[cfg(feature = "serve")]
pub mod serve;
pub mod session;
pub mod steering;
pub mod text;
pub mod train;

pub use machine::error::{Error, JobFailure, Result};
