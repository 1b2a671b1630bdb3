//! A model, and what vectors mean to it: the residuals that they are added to, and the tokens that they promote.

use std::path::Path;

use bipo::data::Message;
use bipo::model::Model;
use bipo::session::Demand;
use bipo::steering::lens::{self, NEUTRAL_PROMPTS, ResidualNorm, TokenScore};
use bipo::steering::vector::SteeringVector;
use bipo::text::tokens::{ResponsePrefix, TextEncoder};
use bipo::{Error, Result};

use super::report::{InspectedToken, MeasuredOn};
use crate::args::InspectArgs;
use crate::commands::interrupt::Interrupt;
use crate::commands::session;
use crate::terminal::Log;

/// A model with what was measured on it.
pub struct MeasuredModel {
    pub model: MeasuredOn,
    pub model_type: String,
    decoder: Model,
    encoder: TextEncoder,
    top: usize,
    pub norms: Vec<ResidualNorm>,
}

impl MeasuredModel {
    /// `vectors` are checked against the model before its weights are read.
    pub fn new(args: &InspectArgs, vectors: &[(&Path, &SteeringVector)], interrupt: &Interrupt, log: Log) -> Result<Self> {
        let opened = session::open(&args.model, ResponsePrefix::Auto, log)?;
        for (path, vector) in vectors {
            let fits = vector.check_model(opened.config.hidden_size, opened.config.num_hidden_layers);
            fits.map_err(|error| Error::Argument(format!("{}: {error}", path.display())))?;
        }
        // The residuals of a few short prompts, of which only their lengths are kept.
        let (decoder, _) = session::load(&opened, &Demand::default(), log)?;
        let sequences: Vec<Vec<u32>> = NEUTRAL_PROMPTS
            .iter()
            .map(|prompt| Ok(opened.encoder.encode_prompt(&[Message::new("user", *prompt)])?.ids))
            .collect::<Result<_>>()?;
        let highest = vectors.iter().filter_map(|(_, vector)| vector.layers.keys().next_back()).max();
        let blocks = highest.map_or(0, |layer| layer + 1);
        let norms = lens::residual_norms(&decoder, &sequences, blocks, &mut || interrupt.check())?;
        let model =
            MeasuredOn { name: opened.files.name, prompts: sequences.len(), tokens: sequences.iter().map(Vec::len).sum() };
        Ok(Self { model, model_type: opened.config.model_type, decoder, encoder: opened.encoder, top: args.top, norms })
    }

    /// The tokens that `v` promotes and suppresses most; none where it has no direction.
    pub fn tokens(&self, v: &[f32]) -> Result<Option<(Vec<InspectedToken>, Vec<InspectedToken>)>> {
        let tokenizer = self.encoder.tokenizer();
        // An embedding may have more rows than the tokenizer has tokens: those were never trained.
        let lens = lens::logit_lens(&self.decoder, v, self.top, |id| tokenizer.id_to_token(id).is_some())?;
        let named = |tokens: Vec<TokenScore>| -> Result<Vec<InspectedToken>> {
            tokens
                .into_iter()
                .map(|token| Ok(InspectedToken { token: self.text(token.id)?, id: token.id, score: token.score }))
                .collect()
        };
        lens.map(|lens| Ok((named(lens.promoted)?, named(lens.suppressed)?))).transpose()
    }

    /// What a token stands for, its leading space included.
    fn text(&self, id: u32) -> Result<String> {
        let piece = self.encoder.tokenizer().id_to_token(id).unwrap_or_default();
        let text = self.encoder.decode(&[id], false)?;
        // Half a character decodes to nothing readable; SentencePiece strips the space of a first token.
        if text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(piece);
        }
        Ok(if piece.starts_with('▁') && !text.starts_with(' ') { format!(" {text}") } else { text })
    }
}
