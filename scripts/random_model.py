"""Write a model of a known shape with random weights, to measure the speed and memory of that shape without a download.

Weights are normal with standard deviation 0.02 and norms multiply by 1, so that activations stay finite. Text from the model means
nothing. Its tokenizer knows the 256 bytes and three special tokens. Tensors are written a piece at a time, in the shards that
`transformers` would write. scripts/random-model.sh runs this script.
"""

import argparse
import json
import math
import pathlib
import struct

import numpy

STD = 0.02
SHARD_BYTES = 5_000_000_000
PIECE = 1 << 24  # elements drawn at a time

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, "hidden_act": "silu"}
GEMMA_2 = {
    "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "rms_norm_eps": 1e-6, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0, "sliding_window": 4096, "rope_theta": 1e4, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
QWEN_3_MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "head_dim": 128, "rope_theta": 1e6, "max_position_embeddings": 40960, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False,
}
SHAPES = {
    # mistralai/Mistral-7B-Instruct-v0.2
    "mistral-7b": LLAMA
    | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336}
    | {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000}
    | {"rope_theta": 1e6, "max_position_embeddings": 32768, "sliding_window": None, "tie_word_embeddings": False},
    # meta-llama/Llama-2-7b-chat-hf
    "llama-2-7b": LLAMA
    | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 32, "vocab_size": 32000, "rope_theta": 1e4, "max_position_embeddings": 4096}
    | {"tie_word_embeddings": False},
    # HuggingFaceTB/SmolLM2-135M-Instruct
    "smollm2-135m": LLAMA
    | {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    | {"num_key_value_heads": 3, "vocab_size": 49152, "rope_theta": 1e5, "max_position_embeddings": 8192}
    | {"tie_word_embeddings": True},
    # google/gemma-2-9b-it
    "gemma-2-9b": GEMMA_2
    | {"hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16}
    | {"num_key_value_heads": 8, "vocab_size": 256000},
    # Qwen/Qwen3-30B-A3B
    "qwen3-30b-a3b": QWEN_3_MOE
    | {"hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128}
    | {"num_experts_per_tok": 8, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4}
    | {"vocab_size": 151936},
    # This is no model's shape. It has two blocks more than a steered layer needs, and spare rows in its vocabulary.
    "tiny": LLAMA
    | {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 320, "rope_theta": 1e4, "max_position_embeddings": 2048}
    | {"tie_word_embeddings": False},
}
# The same of other families.
SMALL = SHAPES["tiny"]
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
SHAPES["tiny-gemma2"] = GEMMA_2 | {name: SMALL[name] for name in SIZES} | {"head_dim": 32, "sliding_window": 16}
SHAPES["tiny-qwen3-moe"] = QWEN_3_MOE | {name: SMALL[name] for name in SIZES} | {
    "head_dim": 32, "moe_intermediate_size": 48, "num_experts": 8, "num_experts_per_tok": 2
}
DTYPES = {"bf16": ("BF16", "bfloat16", 2), "f16": ("F16", "float16", 2), "f32": ("F32", "float32", 4)}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main():
    args = parse_arguments()
    shape = SHAPES[args.shape]
    args.dir.mkdir(parents=True, exist_ok=True)
    if (args.dir / "config.json").exists():
        raise SystemExit(f"random-model: {args.dir} already holds a model: remove it, or name another folder")
    # Gemma adds 1 to the weights of its norms.
    norm = 0.0 if shape["model_type"].startswith("gemma") else 1.0
    write_weights(args.dir, tensors(shape), (args.dtype, norm), numpy.random.Generator(numpy.random.SFC64(args.seed)))
    write_tokenizer(args.dir)
    ids = {"bos_token_id": None, "eos_token_id": SPECIAL.index("<|im_end|>")}
    # config.json is written last, because a folder without it is not taken for a model.
    write_json(args.dir / "config.json", shape | ids | {"torch_dtype": DTYPES[args.dtype][1]})


def tensors(shape):
    """(name, dimensions) of every tensor, in the order of the blocks."""
    hidden, inner, vocab = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    head_dim = shape.get("head_dim") or hidden // heads
    q, kv = heads * head_dim, kv_heads * head_dim
    norms = ["input_layernorm", "post_attention_layernorm"]
    if shape["model_type"] == "gemma2":
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(shape["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        yield f"{block}.{norms[0]}.weight", (hidden,)
        for name, dims in (("q_proj", (q, hidden)), ("k_proj", (kv, hidden)), ("v_proj", (kv, hidden)), ("o_proj", (hidden, q))):
            yield f"{block}.self_attn.{name}.weight", dims
        if shape["model_type"] == "qwen3_moe":
            for name in ("q_norm", "k_norm"):
                yield f"{block}.self_attn.{name}.weight", (head_dim,)
        for name in norms[1:]:
            yield f"{block}.{name}.weight", (hidden,)
        if "num_experts" not in shape:
            yield from mlp(f"{block}.mlp", hidden, inner)
            continue
        yield f"{block}.mlp.gate.weight", (shape["num_experts"], hidden)
        for expert in range(shape["num_experts"]):
            yield from mlp(f"{block}.mlp.experts.{expert}", hidden, shape["moe_intermediate_size"])
    yield "model.norm.weight", (hidden,)
    if not shape["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def mlp(prefix, hidden, inner):
    for name, rows, columns in (("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)):
        yield f"{prefix}.{name}.weight", (rows, columns)


def write_weights(folder, specifications, kind, random):
    """Writes shards of the tensors. `kind` is the dtype, and the weight of every norm."""
    dtype, norm = kind
    shards = [[]]
    held = 0
    for name, dims in specifications:
        size = math.prod(dims) * DTYPES[dtype][2]
        if shards[-1] and held + size > SHARD_BYTES:
            shards.append([])
            held = 0
        shards[-1].append((name, dims, size))
        held += size
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        write_shard(folder / file, shard, (dtype, norm), random)
        weight_map |= {name: file for name, _, _ in shard}
    if len(shards) > 1:
        total = sum(size for shard in shards for _, _, size in shard)
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_shard(path, shard, kind, random):
    """Writes a safetensors file: u64 length, JSON header, data."""
    dtype, norm = kind
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, dims, size in shard:
        header[name] = {"dtype": DTYPES[dtype][0], "shape": dims, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, dims, _ in shard:
            is_norm = len(dims) == 1
            for start in range(0, math.prod(dims), PIECE):
                count = min(PIECE, math.prod(dims) - start)
                values = numpy.full(count, norm, "<f4") if is_norm else random.standard_normal(count, numpy.float32) * STD
                file.write(encode(values.astype("<f4", copy=False), dtype))


def encode(values, dtype):
    if dtype == "bf16":  # the upper half of an f32; random numbers need no rounding
        return numpy.ascontiguousarray(values.view("<u2")[1::2])
    return values.astype("<f2") if dtype == "f16" else values


def write_tokenizer(folder):
    vocab = {token: i for i, token in enumerate([*SPECIAL, *byte_characters()])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token} | flags for i, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
        | {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []},
    }
    write_json(folder / "tokenizer.json", tokenizer)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|im_end|>"}
    settings |= {"pad_token": "<|endoftext|>", "add_bos_token": False, "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", settings | {"chat_template": CHAT_TEMPLATE})


def byte_characters():
    """The character that stands for each byte in byte-level BPE: the byte itself if it prints, otherwise one from U+0100 on."""
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in prints else next(spare)) for byte in range(256)]


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="random-model", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("dir", type=pathlib.Path, metavar="DIR", help="the folder to write to; it is made if it does not exist and must not hold a model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
