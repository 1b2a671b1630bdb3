"""Write a model of a known shape with random weights, to measure the speed and memory of that shape without a download.

Weights are normal with standard deviation 0.02 and norms are 1, so that activations stay finite. Text from the model means
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
    # This is no model's shape. It has two blocks more than a steered layer needs, and spare rows in its vocabulary.
    "tiny": LLAMA
    | {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 320, "rope_theta": 1e4, "max_position_embeddings": 2048}
    | {"tie_word_embeddings": False},
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
    write_weights(args.dir, tensors(shape), args.dtype, numpy.random.Generator(numpy.random.SFC64(args.seed)))
    write_tokenizer(args.dir)
    ids = {"bos_token_id": None, "eos_token_id": SPECIAL.index("<|im_end|>")}
    # config.json is written last, because a folder without it is not taken for a model.
    write_json(args.dir / "config.json", shape | ids | {"torch_dtype": DTYPES[args.dtype][1]})


def tensors(shape):
    """(name, dimensions) of every tensor, in the order of the blocks."""
    hidden, inner, vocab = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    kv = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(shape["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (hidden,)
        for name, rows in (("q_proj", hidden), ("k_proj", kv), ("v_proj", kv), ("o_proj", hidden)):
            yield f"{block}.self_attn.{name}.weight", (rows, hidden)
        yield f"{block}.post_attention_layernorm.weight", (hidden,)
        for name, rows, columns in (("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)):
            yield f"{block}.mlp.{name}.weight", (rows, columns)
    yield "model.norm.weight", (hidden,)
    if not shape["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def write_weights(folder, specifications, dtype, random):
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
        write_shard(folder / file, shard, dtype, random)
        weight_map |= {name: file for name, _, _ in shard}
    if len(shards) > 1:
        total = sum(size for shard in shards for _, _, size in shard)
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_shard(path, shard, dtype, random):
    """Writes a safetensors file: u64 length, JSON header, data."""
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
                values = numpy.ones(count, "<f4") if is_norm else random.standard_normal(count, numpy.float32) * STD
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
