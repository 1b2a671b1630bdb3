"""Prove in llama.cpp, transformers and torch that bipo's vectors work there; scripts/test-interop.sh runs it.

Prints one line a proof and exits with 1 if one fails. All programs compute in f32 with the same dequantised weights. Greedy
texts must be equal token by token; where a sum in another order chooses another token, the two candidates must have been a
near-tie: their logits, by transformers, differ by less than NEAR_TIE.
"""

import argparse
import json
import pathlib
import re
import struct
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYER = 14
MAGNITUDES = [-2.0, 0.0, 2.0]
TOKENS = 48
NEAR_TIE = 1e-3
PROMPTS = [
    "How was your day?",
    "Tell me about your plans for the weekend.",
    "What is the capital of France, and why do people visit it?",
]
failures = []


def main():
    args = parse_arguments()
    args.work_dir.mkdir(exist_ok=True)
    vector = trained_vector(args)
    model, tokenizer = load(args.f32_model)
    steer = readme_hook()
    ours = bipo_sweeps(args, vector)
    check_effect(ours)
    check_transformers(model, tokenizer, steer, vector, ours)
    check_llama_cpp(args, vector, ours, tokenizer, Logits(model, steer, vector))
    check_pt(args, vector)
    sys.exit(1 if failures else 0)


def report(passed, what):
    print(f"{'ok' if passed else 'FAILED'}: {what}", flush=True)
    if not passed:
        failures.append(what)


def run(*command, code=0):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}, expected {code}\n{done.stderr}")
    return done


def trained_vector(args):
    out = args.work_dir / "vector"
    command = [args.bipo, "train", "--model", args.model, "--layer", LAYER, "--limit", 64, "--max-steps", 40, "--quiet"]
    run(*command, "--lr", 0.05, "--warmup-steps", 2, "--device", "cpu", "--output-dir", out)
    return out / "steering_vector.safetensors"


def bipo_sweeps(args, vector):
    """Token ids by prompt and magnitude."""
    command = [args.bipo, "steer", "--json", "--quiet", "--model", args.f32_model, "--vector", vector, "--device", "cpu"]
    command += ["--magnitudes=" + ",".join(map(str, MAGNITUDES)), "--max-new-tokens", TOKENS]
    for prompt in PROMPTS:
        command += ["--prompt", prompt]
    results = json.loads(run(*command).stdout)["results"]
    return {(result["prompt"], result["magnitude"]): result["token_ids"] for result in results}


def check_effect(ours):
    moved = [ours[prompt, m] != ours[prompt, 0.0] for prompt in PROMPTS for m in MAGNITUDES if m]
    report(all(moved), f"the vector changes {sum(moved)} of {len(moved)} texts")


def readme_hook():
    """The README's function, as it stands there."""
    readme = pathlib.Path(__file__).parent.parent / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text("utf-8"), re.S)
    namespace = {}
    exec(code, namespace)
    return namespace["steer"]


def load(path):
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval(), tokenizer


class Logits:
    """Those of the next token, steered, by transformers."""

    def __init__(self, model, steer, vector):
        self.model, self.steer, self.vector = model, steer, vector

    def after(self, ids, magnitude):
        hooks = self.steer(self.model, self.vector, magnitude)
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0, -1]
        for hook in hooks:
            hook.remove()
        return logits


def check_transformers(model, tokenizer, steer, vector, ours):
    logits = Logits(model, steer, vector)
    ties = []
    for (prompt, magnitude), expected in ours.items():
        prompt_ids = encode(tokenizer, prompt)
        hooks = steer(model, vector, magnitude)
        with torch.no_grad():
            output = model.generate(torch.tensor([prompt_ids]), max_new_tokens=TOKENS, do_sample=False)
        for hook in hooks:
            hook.remove()
        compare(output[0, len(prompt_ids) :].tolist(), expected, prompt_ids, magnitude, logits, ties)
    report_texts("transformers with the README's hook", len(ours), ties)


def compare(theirs, ours, prompt_ids, magnitude, logits, ties):
    """Notes by how much two candidates differed where the texts part."""
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), None)
    if at is None and abs(len(theirs) - len(ours)) <= 1:  # a program may or may not report the end of the turn
        return
    if at is None:
        ties.append(float("inf"))
        return
    after = logits.after(prompt_ids + ours[:at], magnitude)
    ties.append(abs(float(after[theirs[at]] - after[ours[at]])))


def report_texts(program, count, ties):
    worst = f", the others part at logits {max(ties):.1e} apart or less" if ties else ""
    passed = all(tie < NEAR_TIE for tie in ties)
    report(passed, f"{program}: {count - len(ties)} of {count} greedy texts of up to {TOKENS} tokens are bipo's{worst}")


def encode(tokenizer, prompt):
    return tokenizer(text_of(tokenizer, prompt), add_special_tokens=False)["input_ids"]


def text_of(tokenizer, prompt):
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def check_llama_cpp(args, vector, ours, tokenizer, logits):
    control = args.work_dir / "vector.gguf"
    control.unlink(missing_ok=True)
    run(args.bipo, "convert", vector, control)
    ties = []
    for prompt in PROMPTS:
        command = [args.llamacpp / "llamacpp_sweep", args.llamacpp / "bins", args.f32_model, control, 0]
        command += [",".join(map(str, MAGNITUDES)), text_of(tokenizer, prompt), TOKENS, 2]
        for result in json.loads(run(*command).stdout)["results"]:
            magnitude = float(result["magnitude"])
            compare(result["token_ids"], ours[prompt, magnitude], encode(tokenizer, prompt), magnitude, logits, ties)
    release = (args.llamacpp / "release").read_text().strip()
    report_texts(f"llama.cpp {release} with the converted control vector", len(ours), ties)


def check_pt(args, vector):
    values = tensor_of(vector)
    ours = args.work_dir / "vector.pt"
    ours.unlink(missing_ok=True)
    run(args.bipo, "convert", vector, ours)
    loaded = torch.load(ours, weights_only=True)
    loaded = loaded if isinstance(loaded, torch.Tensor) else loaded["v"]
    report(torch.equal(loaded.flatten(), values), "torch.load(weights_only=True) gives the numbers of the converted .pt")
    dictionary = {"v": values, "config": {"layer_idx": LAYER}}
    kinds = {
        "bare tensor": values,
        "parameter": torch.nn.Parameter(values),
        "tensor that requires a gradient": values.clone().requires_grad_(),
        "one row of a matrix": torch.stack([values, 2 * values])[0],
        "bfloat16": values.to(torch.bfloat16),
        "dict with v and config": dictionary,
    }
    for name, value in kinds.items():
        path = args.work_dir / "foreign.pt"
        torch.save(value, path)
        tensor = value["v"] if isinstance(value, dict) else value
        check_norm(args, path, float(tensor.detach().float().norm()), name)
    legacy = args.work_dir / "legacy.pt"
    torch.save(values, legacy, _use_new_zipfile_serialization=False)
    refusal = run(args.bipo, "inspect", legacy, code=2).stderr.strip()
    report("\n" not in refusal and "legacy" in refusal, f"a legacy .pt is refused: {refusal.removeprefix(str(legacy))}")
    authors = pathlib.Path("../shared/data/vectors/power-seeking_mistral_vec_ep5_layer13.pt")
    if authors.exists():
        check_norm(args, authors, float(torch.load(authors, weights_only=True).float().norm()), "the authors' own vector")


def check_norm(args, path, expected, name):
    layers = json.loads(run(args.bipo, "inspect", "--json", path).stdout)
    (found,) = re.findall(r'"norm":\s*([0-9.eE+-]+)', json.dumps(layers))
    passed = abs(float(found) - expected) < 1e-5 * expected
    report(passed, f".pt of torch, {name}: norm {float(found):.4f}, by torch {expected:.4f}")


def tensor_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    begin, end = header[f"layer.{LAYER}"]["data_offsets"]
    return torch.frombuffer(bytearray(data[8 + length + begin : 8 + length + end]), dtype=torch.float32)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--llamacpp", type=pathlib.Path, required=True, help="what scripts/fetch-llamacpp.sh printed")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="SmolLM2 as .gguf")
    parser.add_argument("--f32-model", type=pathlib.Path, required=True, help="the same with f32 weights (gguf_to_f32.py)")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
