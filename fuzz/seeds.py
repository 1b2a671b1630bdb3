"""Write the first corpus of every fuzz target to fuzz/corpus: small files that are right, from the tests' fixtures and made
here, so that mutations begin deep inside the parsers. Needs numpy, and the package gguf for the models; run from anywhere.
"""

import gzip
import hashlib
import json
import pathlib
import struct

import gguf
import numpy

ROOT = pathlib.Path(__file__).resolve().parent
FIXTURES = ROOT.parent / "tests" / "fixtures"


def write(target, name, data):
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data if isinstance(data, bytes) else data.encode())


def copy(target, *patterns):
    for pattern in patterns:
        for path in sorted(FIXTURES.glob(pattern)):
            write(target, f"{path.parent.name}-{path.name}", path.read_bytes())


def datasets():
    rows = [{"question": "What is NATO?", "matching": "An alliance.", "not_matching": "A dance."}] * 3
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    answer = {"role": "assistant", "content": "Yes \u00e9"}
    chats = [
        {"prompt": chat, "chosen": [answer], "rejected": [answer | {"content": "No"}]},
        {"chosen": chat + [answer], "rejected": chat + [answer | {"content": "No"}]},
    ]
    truthful = {"Question": "Why?", "Best Answer": "So", "Correct Answers": "So; a", "Incorrect Answers": "b; c; d", "Type": "x"}
    for name, table in {"plain": rows, "chat": chats[:1], "whole": chats[1:], "truthful": [truthful], "none": []}.items():
        write("dataset_json", f"{name}.json", json.dumps(table, indent=1))
        write("dataset_json", f"{name}.jsonl", "\n".join(map(json.dumps, table)) + "\n")
    quoted = '"a ""b"", c\r\nd"'
    write("dataset_csv", "plain", "question,matching,not_matching\nWhat?,this,that\n\nWhy?,so,no\n")
    write("dataset_csv", "quoted", f"\ufeffPrompt,id,Chosen,Rejected\r\n{quoted},1,{quoted},x\r\n")
    write("dataset_csv", "truthful", ",".join(truthful) + "\n" + ",".join(truthful.values()) + "\n")
    copy("dataset_parquet", "data/*.parquet", "cases/data/*.parquet")
    copy("dataset_json", "cases/data/*.json", "cases/data/*.jsonl")
    copy("dataset_csv", "cases/data/*.csv", "cases/data/*.tsv")
    columns = {"prompt": ["a", "b"], "chosen": ["c", "d"], "rejected": ["e", "f"]}
    write("dataset_json", "columns", json.dumps(columns))
    write("dataset_json", "nan", '{"prompt": "a", "responses": ["c", "d"], "scores": [NaN, 2, -Infinity]}\n')
    for name, text in {"utf16": "question,matching,not_matching\na,b,c\n", "json16": json.dumps(rows)}.items():
        write("dataset_text", f"{name}.le", text.encode("utf-16-le"))
        write("dataset_text", f"{name}.mark", text.encode("utf-16"))
    copy("dataset_text", "cases/data/*")
    write("dataset_gzip", "plain", gzip.compress(json.dumps(rows[0]).encode(), mtime=0))
    copy("dataset_gzip", "cases/data/*.gz")


def questions():
    copy("questions", "cases/questions/*")
    copy("questions", "eval/*.csv", "eval/*.json", "data/options.parquet", "data/targets.parquet", "data/truthful.parquet")
    targets = {"choices": ["a", "b"], "labels": [1, 0]}
    rows = {
        "targets": {"question": "q", "mc1_targets": targets, "mc2_targets": targets},
        "choices": {"question": "q", "choices": ["a", "b", "c"], "answer": 1},
        "letters": {"question": "q\n (A) x\n (B) y", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"},
    }
    for name, row in rows.items():
        write("questions", f"{name}.json", json.dumps([row, row], indent=1))
        write("questions", f"{name}.jsonl", json.dumps(row) + "\n")
    write("questions", "headerless", "Why?,a,b,c,d,C\nWhy not?,a,b,c,d,A\n")


def templates():
    copy("chat_template", "chat_templates/*.jinja")
    config = json.loads((FIXTURES / "llama/tokenizer_config.json").read_text())
    if isinstance(config.get("chat_template"), str):
        write("chat_template", "llama", config["chat_template"])
    methods = "strip lstrip rstrip upper lower title capitalize splitlines".split()
    calls = "".join(f"{{{{ m.content.{method}() }}}}" for method in methods)
    write("chat_template", "methods", f"{{% for m in messages %}}{calls}{{% endfor %}}{{{{ 'a-b'.replace('-', 'c').split('b')|join }}}}")
    write(
        "chat_template",
        "state",
        "{%- set ns = namespace(s='') %}{%- for m in messages if not m.role == 'system' %}{% set ns.s = ns.s ~ m['content'][::-1] + bos_token %}"
        "{%- if loop.last and loop.index0 % 2 == 1 %}{% break %}{% endif %}{% endfor %}{{- ns.s|trim|upper|tojson(indent=2) }}",
    )
    write("chat_template", "macro", "{% macro f(x, n=2) %}<{{ x * n }}>{% endmacro %}{{ f(messages[0]['role']) }}{{ strftime_now('%d %b %Y') }}")
    write("chat_template", "filters", "{{ messages|map(attribute='role')|unique|join(', ')|indent(4) }}{{ '%05d %s'|format(3, 'x') }}{{ range(3)|list|length }}")
    write("chat_template", "refuses", "{% if messages[0].role == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}{% generation %}x{% endgeneration %}")


def vectors():
    for target, patterns in {
        "vector_pt": ["vectors/*.pt"],
        "vector_safetensors": ["vectors/*.safetensors"],
        "vector_gguf": ["vectors/*.gguf"],
        "vector_json": ["vectors/*.json", "vectors/*.svec"],
        "vector_npy": ["vectors/*.npy"],
    }.items():
        copy(target, *patterns)
    known = {"format": "bipo", "format_version": "1", "positions": "all", "spans": "user", "base_model": "owner/name"}
    known |= {"model_type": "llama", "num_hidden_layers": "4", "hidden_size": "4", "layers": "[1, 2]", "bipo_version": "0.1.0"}
    known |= {"training": '{"lr": 0.1}', "combination": '{"normalize": true, "parts": [], "orthogonal_to": []}'}
    header = {"__metadata__": known}
    for place, layer in enumerate([1, 2]):
        header[f"layer.{layer}"] = {"dtype": "F32", "shape": [4], "data_offsets": [16 * place, 16 * place + 16]}
    write("vector_safetensors", "own", safetensors(header, numpy.arange(8, dtype="<f4").tobytes()))
    own = {"format": "bipo", "format_version": 1, "hidden_size": 2, "num_hidden_layers": 4, "positions": "prompt"}
    write("vector_json", "own", json.dumps(own | {"training": {"steps": 3}, "layers": {"1": [0.5, -1e-9], "3": [1, 2]}}))
    writer = gguf_file("controlvector", "vector_gguf", "own")
    for key, value in known.items():
        writer.add_string(f"bipo.{key}", value)
    for layer in [1, 2]:
        writer.add_tensor(f"direction.{layer}", numpy.arange(4, dtype=numpy.float32))
    close(writer)


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def gguf_file(architecture, target, name):
    (ROOT / "corpus" / target).mkdir(parents=True, exist_ok=True)
    return gguf.GGUFWriter(ROOT / "corpus" / target / f"seed-{name}", architecture)


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def models():
    copy("model_config", "*/config.json", "*/generation_config.json", "*/tokenizer_config.json")
    named = {"chat_template": [{"name": "default", "template": "x"}], "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    write("model_config", "named", json.dumps(named))
    scaled = json.loads((FIXTURES / "llama/config.json").read_text())
    llama_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    write("model_config", "llama-3", json.dumps(scaled | {"rope_scaling": llama_3 | {"original_max_position_embeddings": 64}}))

    header = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, kind, size in [("model.norm.weight", "BF16", 2), ("model.embed_tokens.weight", "F32", 4), ("lm_head.weight", "F16", 2)]:
        header[name] = {"dtype": kind, "shape": [4], "data_offsets": [len(data), len(data) + 4 * size]}
        data += bytes(4 * size)
    write("model_safetensors", "three", safetensors(header, data))

    copy("tokenizer_json", "*/tokenizer.json")
    pieces = json.loads((FIXTURES / "sentencepiece/tiny.json").read_text())
    pieces = {key: pieces[key][:300] for key in ["tokens", "scores", "types"]}
    model("llama", pieces["tokens"], pieces["types"], scores=pieces["scores"])
    letters = [chr(code) for code in range(33, 127)]
    for pre in ["smollm", "llama-bpe", "qwen2", "tekken", "default"]:
        tokens = letters + ["He", "ll", "Hell", "<|end|>"]
        model("gpt2", tokens, [1] * (len(tokens) - 1) + [3], pre=pre, merges=["H e", "l l", "He ll"])


def model(kind, tokens, types, scores=None, pre=None, merges=None):
    writer = gguf_file("llama", "model_gguf", f"{kind}-{pre}")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if pre:
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages[0].content }}")
    writer.add_tensor("output_norm.weight", numpy.ones(32, dtype=numpy.float32))
    writer.add_tensor("rope_freqs.weight", numpy.ones(8, dtype=numpy.float32))
    # A vocabulary's shape alone counts; one row in place of all keeps the file small.
    writer.add_tensor("token_embd.weight", numpy.zeros((1, 32), dtype=numpy.float16))
    close(writer)


def checkpoints():
    def floats(code, *numbers):
        return struct.pack(f"<{len(numbers)}{code}", *numbers)

    tensors = {
        "v": ("F32", [4], floats("f", 1, 2, 3, 4)),
        "best_v": ("F32", [4], floats("f", 4, 3, 2, 1)),
        "first_moment": ("F32", [4], floats("f", 0, 0, 1, 1)),
        "second_moment": ("F32", [4], floats("f", 1, 1, 0, 0)),
        "order": ("U64", [3], floats("Q", 2, 0, 1)),
        "last": ("F64", [2], floats("d", 0.5, 0.1)),
        "epochs": ("F64", [1, 8], floats("d", 3, 1, 1, 0.1, -0.1, 0.9, 0.8, 0.6)),
    }
    names = ["cache_s", "forward_s", "backward_s", "eval_s", "other_s", "tokens", "flops"]
    state = {"format_version": 1, "steps": 4, "epoch": 2, "done": 1, "seed": [7] * 32, "words": 12}
    state |= {"timings": dict.fromkeys(names, 0), "settings": {"lr": 0.1, "layers": [1]}}
    text = json.dumps(state, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        digest.update(f"\n{name} {len(values)}\n".encode() + values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    header["__metadata__"] = {"state": text, "sha256": digest.hexdigest()}
    write("checkpoint", "whole", safetensors(header, data))


def arguments():
    for index, text in enumerate(
        ["-2,0,2", "-2..2:0.5", "2..-2:-1e0", " 1.5, .5", "13", "10,13,16", "10-16,3", "all", "2GB", "500 MiB", "1.5kb", "prompt"]
        + ["last", "user", "assistant", "cheerful", "hf:owner/name@main:train/x.csv", "truthfulqa", "./data/x.csv"]
        + ["https://host:80/v1", "http://[::1]:8080", "So.\nScore: 3"]
    ):
        write("arguments", str(index), text)


def requests():
    """The first byte chooses the endpoint: chat, completions, sweep, score, validate."""
    messages = [{"role": "user", "content": "Hello"}]
    vectors = {"vectors": [{"source": "v", "scale": -1.5}], "operation": "ablate", "when": None}
    apply = {"prompt": "all", "generation": "all"}
    easysteer = {"source": "v", "algorithm": "direct", "scale": "-auto", "normalize": False, "apply": apply}
    refused = {"vectors": [{"source": "v", "scale": 2, "layers": [1], "positions": "last"}], "magnitude": -1.5}
    for kind, body in [
        (0, {"model": "tiny", "messages": messages, "max_tokens": 4, "steering": "v:1.5", "stream": True}),
        (0, {"messages": messages, "max_tokens": 4, "steering": vectors, "temperature": 0.7, "seed": 1, "stop": ["a"], "n": 2}),
        (0, {"messages": messages, "max_completion_tokens": 2, "logprobs": True, "top_logprobs": 3, "logit_bias": {"5": -100}}),
        (1, {"prompt": ["a", "b"], "max_tokens": 4, "echo": True, "logprobs": 2, "steering": 2}),
        (1, {"prompt": [1, 2, 3], "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}),
        (2, {"prompt": "Hello", "magnitudes": [-2, 0, 2], "max_tokens": 4, "steering": "v"}),
        (3, {"messages": messages, "response": "Bye", "steering": "v:-1"}),
        (1, {"prompt": ["a", "b"], "n": 2, "max_tokens": 2, "logprobs": 2, "top_p": 0.5, "top_k": 3, "temperature": 0.000001}),
        (2, {"messages": messages, "magnitudes": "auto", "max_tokens": 2, "vector": "v", "stream": None}),
        (2, {"prompt": "Hello", "magnitudes": [1e30, 0], "max_tokens": 2, "steering": "v:1e30 - 0.5 v"}),
        (3, {"text": "Hello", "steering": {"vectors": [{"source": "v"}], "conflict": "sum", "operation": "add"}}),
        (4, {"steering": vectors}),
        (4, {"steering": {"vectors": [{"source": "v", "scale": 2}], "when": "cooking"}}),
        (4, {"steering": {"vectors": [easysteer]}}),
        (4, {"steering": refused}),
    ]:
        write("request_body", f"{kind}-{len(json.dumps(body))}", bytes([kind]) + json.dumps(body).encode())


if __name__ == "__main__":
    datasets()
    questions()
    checkpoints()
    templates()
    vectors()
    models()
    arguments()
    requests()
