//! The tokenizer that a GGUF file describes in its metadata: byte-level BPE (`gpt2`) or SentencePiece BPE (`llama`). Nothing
//! here reads a file; keys that are missing or do not fit together are errors that name the key.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use crate::model::gguf::GgufMetadata;
use crate::{Error, Result};

/// Metadata of a GGUF file.
pub type GgufValues = HashMap<String, Value>;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const BOS: &str = "tokenizer.ggml.bos_token_id";

/// What stands in place of a file's name in messages: whoever reads the file names it.
const SOURCE: &str = "GGUF metadata";

/// SentencePiece's sign for a space.
const SPACE: &str = "\u{2581}";
/// Longer SentencePiece pieces are matched by no merge; trained ones have at most a few dozen bytes.
const MAX_MERGED_BYTES: usize = 256;

// Kinds of tokens, as llama.cpp numbers them.
const NORMAL: u32 = 1;
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const BYTE: u32 = 6;

/// The tokenizer, its special tokens added. Its post-processor puts BOS in front where the model's own tokenizer does.
pub fn tokenizer_from_gguf(metadata: &GgufValues) -> Result<Tokenizer> {
    let metadata = keys(metadata);
    let vocabulary = Vocabulary::read(metadata)?;
    let kind = metadata.text(MODEL)?.ok_or_else(|| missing(MODEL))?;
    let (mut tokenizer, adds_bos) = match kind {
        "gpt2" => byte_level_bpe(metadata, &vocabulary)?,
        "llama" => sentence_piece_bpe(metadata, &vocabulary)?,
        other => {
            let problem = format!("tokenizer kind `{other}` in `{MODEL}` is not supported: gpt2 and llama are");
            return Err(malformed(problem));
        }
    };
    // Phi 3's own tokenizer drops white space behind its turn tokens; the file does not say so.
    let strips = kind == "llama" && metadata.text("general.architecture")? == Some("phi3");
    let strips_behind = |token: &str| strips && !["<unk>", "<s>", "<|endoftext|>"].contains(&token);
    let special = vocabulary.of_kind(|kind| kind == CONTROL || kind == UNKNOWN);
    let special = special.map(|token| added(token, true).rstrip(strips_behind(token)));
    // Without a prefix the normalizer only writes spaces as SentencePiece does: runs of spaces are matched there, as the signs
    // that the text itself may hold are. With a prefix it would put one before the token as well.
    let after_normalizer = kind == "llama" && !adds_space_prefix(metadata)?;
    let user_defined = vocabulary.of_kind(|kind| kind == USER_DEFINED);
    let user_defined = user_defined.map(|token| added(token, false).normalized(after_normalizer).rstrip(strips_behind(token)));
    tokenizer.add_special_tokens(special).map_err(unfit)?;
    tokenizer.add_tokens(user_defined).map_err(unfit)?;

    if metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos)
        && let Some(bos) = metadata.id(BOS)?
    {
        put_in_front(&mut tokenizer, vocabulary.token(bos)?, bos)?;
    }
    Ok(tokenizer)
}

/// The tokens in the order of their ids, with the kind of each.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u32>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: GgufMetadata<'a>) -> Result<Self> {
        let tokens = metadata.texts(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
        let kinds = metadata.ids(TYPES)?.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
        if tokens.is_empty() || kinds.len() != tokens.len() {
            let problem = format!("`{TOKENS}` has {} entries and `{TYPES}` {}: expected as many", tokens.len(), kinds.len());
            return Err(malformed(problem));
        }
        Ok(Self { tokens, kinds })
    }

    fn of_kind(&self, wanted: impl Fn(u32) -> bool) -> impl Iterator<Item = &'a str> {
        self.tokens.iter().zip(&self.kinds).filter(move |(_, kind)| wanted(**kind)).map(|(token, _)| *token)
    }

    fn token(&self, id: u32) -> Result<&'a str> {
        let beyond = || malformed(format!("special token {id} is out of range: `{TOKENS}` has {} entries", self.tokens.len()));
        self.tokens.get(id as usize).copied().ok_or_else(beyond)
    }

    fn ids(&self) -> impl Iterator<Item = (String, u32)> {
        self.tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), id))
    }
}

// ---- byte-level BPE ----

/// What `tokenizer.ggml.pre` stands for.
#[derive(Clone, Copy)]
struct Splitting {
    /// Applied one after the other; what no pattern matches stays as it is.
    patterns: &'static [&'static str],
    /// Composes characters first, as the model's own tokenizer does.
    compose: bool,
    /// Takes a word that is a token as a whole, whether or not merges lead there.
    whole_words: bool,
    /// Whether BOS stands in front where the file does not say.
    adds_bos: bool,
}

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Patterns of DeepSeek LLM, with its own list of letters that have a case.
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    DEEPSEEK_CJK,
    r"\p{N}+",
];
const DEEPSEEK_CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"];
const DEEPSEEK_CJK: &str = "[一-龥ࠀ-一가-퟿]+";

/// The splittings of the models that bipo runs; names and meanings are llama.cpp's.
fn splitting(pre: &str) -> Option<Splitting> {
    let base = Splitting { patterns: &[GPT_2], compose: false, whole_words: false, adds_bos: false };
    Some(match pre {
        "gpt-2" | "gpt2" | "olmo" => base,
        "default" => Splitting { patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"], ..base },
        "smollm" | "starcoder" | "refact" | "command-r" => Splitting { patterns: &[r"\p{N}", GPT_2], ..base },
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => {
            Splitting { patterns: &[LLAMA_3], whole_words: true, adds_bos: true, ..base }
        }
        // The names of OLMo 2 and Phi 4, and of Smaug.
        "dbrx" | "smaug-bpe" => Splitting { patterns: &[LLAMA_3], ..base },
        "qwen2" | "deepseek-r1-qwen" => Splitting { patterns: &[QWEN_2], compose: true, ..base },
        "megrez" => Splitting { patterns: &[QWEN_2], ..base },
        // Phi 4 mini's name.
        "gpt-4o" => Splitting { patterns: &[GPT_4O], ..base },
        "deepseek-llm" => Splitting { patterns: &DEEPSEEK_LLM, ..base },
        "deepseek-coder" => Splitting { patterns: &DEEPSEEK_CODER, ..base },
        "tekken" => Splitting { patterns: &[TEKKEN], whole_words: true, adds_bos: true, ..base },
        _ => return None,
    })
}

fn byte_level_bpe(metadata: GgufMetadata, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool)> {
    let pre = metadata.text(PRE)?.ok_or_else(|| {
        malformed(format!("`{PRE}` is missing, as in old conversions: convert the model again, or use its tokenizer.json"))
    })?;
    let splitting = splitting(pre).ok_or_else(|| {
        let known = "gpt-2, default, smollm, llama-bpe, dbrx, qwen2, tekken, gpt-4o, deepseek-llm, deepseek-coder";
        malformed(format!("`{PRE}` is `{pre}`: known are {known}; use a directory with the model's tokenizer.json"))
    })?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.ids().collect::<Vocab>(), written_merges(metadata, vocabulary)?)
        .ignore_merges(splitting.whole_words)
        .build()
        .map_err(unfit)?;

    let mut steps = Vec::new();
    for pattern in splitting.patterns {
        let pattern = SplitPattern::Regex(pattern.to_string());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(unfit)?;
        steps.push(PreTokenizerWrapper::Split(split));
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));

    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_normalizer(splitting.compose.then_some(NFC)).map_err(unfit)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizerSequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
    Ok((tokenizer, splitting.adds_bos))
}

/// The file's merges, each checked: a merge is of two tokens whose concatenation is a token.
fn written_merges(metadata: GgufMetadata, vocabulary: &Vocabulary) -> Result<Vec<(String, String)>> {
    let known: HashSet<&str> = vocabulary.tokens.iter().copied().collect();
    let mut merges = Vec::new();
    for (row, merge) in metadata.texts(MERGES)?.ok_or_else(|| missing(MERGES))?.into_iter().enumerate() {
        let parts = merge.split_once(' ').filter(|(left, right)| {
            known.contains(left) && known.contains(right) && known.contains(format!("{left}{right}").as_str())
        });
        let Some((left, right)) = parts else {
            let problem = format!("`{MERGES}` entry {row}, `{merge}`, is not two tokens whose concatenation is a token");
            return Err(malformed(problem));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

// ---- SentencePiece BPE ----

fn sentence_piece_bpe(metadata: GgufMetadata, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool)> {
    let mut bpe = BPE::builder()
        .vocab_and_merges(vocabulary.ids().collect::<Vocab>(), merges_from_scores(metadata, vocabulary)?)
        .byte_fallback(vocabulary.kinds.contains(&BYTE))
        .fuse_unk(true);
    let unknown = metadata.id("tokenizer.ggml.unknown_token_id")?;
    if let Some(token) =
        unknown.map(|id| vocabulary.token(id)).transpose()?.or_else(|| vocabulary.of_kind(|kind| kind == UNKNOWN).next())
    {
        bpe = bpe.unk_token(token.to_owned());
    }

    let prefixed = adds_space_prefix(metadata)?;
    let mut normalizers = vec![NormalizerWrapper::Replace(Replace::new(" ", SPACE).map_err(unfit)?)];
    let mut decoders = vec![
        DecoderWrapper::Replace(Replace::new(SPACE, " ").map_err(unfit)?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if prefixed {
        normalizers.insert(0, NormalizerWrapper::Prepend(Prepend::new(SPACE.to_owned())));
        decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }

    let mut tokenizer = Tokenizer::new(bpe.build().map_err(unfit)?);
    tokenizer.with_normalizer(Some(NormalizerSequence::new(normalizers))).map_err(unfit)?;
    tokenizer.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok((tokenizer, true))
}

fn adds_space_prefix(metadata: GgufMetadata) -> Result<bool> {
    Ok(metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true))
}

/// SentencePiece joins the two neighbours that make the piece of the highest score. As ranked merges: every way to cut a
/// normal piece into two, in the order of the piece's score; of one piece's ways, the longer left part first.
fn merges_from_scores(metadata: GgufMetadata, vocabulary: &Vocabulary) -> Result<Vec<(String, String)>> {
    let scores = metadata.list(SCORES)?.ok_or_else(|| missing(SCORES))?;
    if scores.len() != vocabulary.tokens.len() {
        let problem = format!("`{SCORES}` has {} entries: expected one a token, {}", scores.len(), vocabulary.tokens.len());
        return Err(malformed(problem));
    }
    let pieces: HashSet<&str> = vocabulary.of_kind(|kind| kind == NORMAL).collect();
    let mut ranked = Vec::new();
    for ((token, kind), score) in vocabulary.tokens.iter().zip(&vocabulary.kinds).zip(scores) {
        if *kind != NORMAL || token.len() > MAX_MERGED_BYTES {
            continue;
        }
        let Value::F32(score) = score else { return Err(malformed(format!("`{SCORES}` should hold f32 numbers"))) };
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if pieces.contains(left) && pieces.contains(right) {
                ranked.push((*score, left, right));
            }
        }
    }
    ranked.sort_by(|(score, left, _), (other_score, other_left, _)| {
        other_score.total_cmp(score).then(other_left.chars().count().cmp(&left.chars().count()))
    });
    Ok(ranked.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}

// ---- special tokens ----

/// Matched in the text as it is, before anything else.
fn added(token: &str, special: bool) -> AddedToken {
    AddedToken::from(token, special).normalized(false)
}

fn put_in_front(tokenizer: &mut Tokenizer, token: &str, id: u32) -> Result<()> {
    let processor = TemplateProcessing::builder()
        .try_single(vec![token.to_owned(), "$A".to_owned()])
        .map_err(malformed)?
        .special_tokens(vec![(token.to_owned(), id)])
        .build()
        .map_err(|error| malformed(error.to_string()))?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}

// ---- metadata ----

fn keys(metadata: &GgufValues) -> GgufMetadata<'_> {
    GgufMetadata::new(metadata, Path::new(SOURCE))
}

fn malformed(problem: impl Into<String>) -> Error {
    Error::malformed(SOURCE, problem)
}

fn missing(key: &str) -> Error {
    malformed(format!("`{key}` is missing: expected a file that holds its tokenizer"))
}

fn unfit(error: impl std::fmt::Display) -> Error {
    malformed(format!("the tokenizer's parts do not fit together: {error}"))
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
pub(crate) mod tests;
