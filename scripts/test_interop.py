"""Test bipo's vectors in llama.cpp, transformers and torch; scripts/test-interop.sh runs it.

Prints one line for each test and exits with 1 if one fails. All programs compute in f32 with the same dequantised weights. Greedy
texts must be equal token by token, the end of the turn included. Sums in another order may choose another token only at a
near-tie: in transformers, the logits of both candidates must be less than NEAR_TIE below the largest. The model is SmolLM2-135M, and
for llama.cpp Gemma 3 270M as well.
"""

import argparse
import contextlib
import io
import json
import pathlib
import re
import struct
import subprocess
import sys

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import bipo

LAYER = 14
MAGNITUDES = [-1.5, 0.0, 1.5]
LLAMA_CPP_MAGNITUDES = [-2.0, 0.0, 2.0]  # at 1.5 or -1.5 one text parts where logits are 7e-3 apart
RULES = ["all", "response", "last+response", "first:2+last:4"]
TOKENS = 48
NEAR_TIE = 1e-3
GEMMA_LAYER = 8
GEMMA_MAGNITUDES = [-4.0, 0.0, 4.0]  # of a vector of norm 54, each of which changes every text
GEMMA_NEAR_TIE = 2e-2  # as tests/it/golden_gemma3.rs has it for transformers; llama.cpp keeps keys and values in 16 bits
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
    for rule in RULES:
        ours = bipo_sweeps(args, vector, rule, MAGNITUDES)
        check_effect(ours, rule)
        check_transformers(Steered(model, tokenizer, vector, rule), ours)
    check_spans(args, model, tokenizer, vector)
    ours = bipo_sweeps(args, vector, "all", LLAMA_CPP_MAGNITUDES)
    check_llama_cpp(args, args.f32_model, ours, Steered(model, tokenizer, vector, "all"), NEAR_TIE)
    check_card(args, model, tokenizer, vector)
    check_pt(args, vector)
    check_gemma(args)
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
    run(*command, "--lr", 0.05, "--warmup-steps", 2, "--device", "cpu", "--output-dir", out, "--overwrite")
    return out / "steering_vector.safetensors"


def bipo_sweeps(args, vector, rule, magnitudes, model=None):
    """Token ids by prompt and magnitude, the vector added at the positions of the rule. The model is SmolLM2 unless given."""
    command = [args.bipo, "steer", "--json", "--quiet", "--model", model or args.f32_model, "--vector", vector, "--device", "cpu"]
    command += ["--magnitudes=" + ",".join(map(str, magnitudes)), "--max-new-tokens", TOKENS, "--positions", rule]
    for prompt in PROMPTS:
        command += ["--prompt", prompt]
    results = json.loads(run(*command).stdout)["results"]
    return {(result["prompt"], result["magnitude"]): result["token_ids"] for result in results}


def check_effect(ours, rule):
    moved = [ours[prompt, m] != ours[prompt, 0.0] for prompt in PROMPTS for m in MAGNITUDES if m]
    # A vector at few tokens may leave a text as it is.
    enough = len(moved) if "response" in rule or rule == "all" else 1
    report(sum(moved) >= enough, f"at {rule} the vector changes {sum(moved)} of {len(moved)} texts")


def load(path):
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval(), tokenizer


class Steered:
    """A model of transformers with the vector at the positions of a rule, by the package bipo."""

    def __init__(self, model, tokenizer, vector, rule):
        self.model, self.tokenizer, self.vector, self.rule = model, tokenizer, vector, rule

    def applied(self, magnitude, **more):
        return bipo.apply(self.model, self.vector, magnitude, positions=self.rule, tokenizer=self.tokenizer, **more)

    def generated(self, prompt_ids, magnitude, **more):
        with torch.no_grad(), self.applied(magnitude, **more):
            output = self.model.generate(torch.tensor([prompt_ids]), max_new_tokens=TOKENS, do_sample=False)
        return output[0, len(prompt_ids) :].tolist()

    def logits_after(self, prompt_ids, answer_ids, magnitude):
        """Those of the next token."""
        with torch.no_grad(), self.applied(magnitude, prompt_length=len(prompt_ids)):
            return self.model(torch.tensor([prompt_ids + answer_ids])).logits[0, -1]


def check_transformers(steered, ours):
    ties = []
    for (prompt, magnitude), expected in ours.items():
        prompt_ids = encode(steered.tokenizer, question(prompt))
        compare(steered.generated(prompt_ids, magnitude), expected, prompt_ids, magnitude, steered, ties)
    report_texts(f"bipo.apply in transformers at {steered.rule}", len(ours), ties)


def check_spans(args, model, tokenizer, vector):
    """The program and the package tell the same tokens of a conversation as the user's words, and as the assistant's."""
    messages = [
        {"role": "user", "content": PROMPTS[0]},
        {"role": "assistant", "content": "It was long. Yours?\n"},
        {"role": "user", "content": f" {PROMPTS[1]}"},
    ]
    prompt_ids = encode(tokenizer, messages)
    steered = Steered(model, tokenizer, vector, "all")
    same, count, answers = 0, 0, set()
    for spans in ("user", "assistant"):
        more = {"model": args.f32_model, "device": "cpu", "max_new_tokens": TOKENS, "spans": spans, "positions": "all"}
        for text in bipo.steer([messages], vector, MAGNITUDES, **more):
            same += steered.generated(prompt_ids, text.magnitude, spans=spans, messages=messages) == text.token_ids
            answers.add(tuple(text.token_ids))
            count += 1
    what = f"bipo.apply in transformers in spans: {same} of {count} greedy texts are bipo's, {len(answers)} of them different"
    report(same == count and len(answers) > 3, what)


def compare(theirs, ours, prompt_ids, magnitude, steered, ties):
    """Notes how far the worse of the two candidates is below the best token, at the place where the texts part."""
    if theirs == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), None)
    if at is None:
        ties.append(float("inf"))
        return
    after = steered.logits_after(prompt_ids, ours[:at], magnitude)
    ties.append(float(after.max() - torch.minimum(after[theirs[at]], after[ours[at]])))


def report_texts(program, count, ties, near_tie=NEAR_TIE):
    worst = f", the others part where logits are {max(ties):.1e} apart or less" if ties else ""
    report(all(tie < near_tie for tie in ties), f"{program}: {count - len(ties)} of {count} greedy texts of up to {TOKENS} tokens are bipo's{worst}")


def encode(tokenizer, messages):
    return tokenizer(text_of(tokenizer, messages), add_special_tokens=False)["input_ids"]


def question(prompt):
    return [{"role": "user", "content": prompt}]


def text_of(tokenizer, messages):
    if not tokenizer.chat_template:
        # bipo gives a base model the text alone, behind the token that begins every text.
        return tokenizer.bos_token + "\n\n".join(message["content"] for message in messages)
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def check_llama_cpp(args, model, ours, steered, near_tie):
    name = steered.model.config.model_type
    folder = args.work_dir / f"{name}-llama.cpp"
    run(args.bipo, "export", steered.vector, "--to", "llama.cpp", "--overwrite", "--out", folder)
    magnitudes = sorted({magnitude for _, magnitude in ours})
    ties = []
    for prompt in PROMPTS:
        command = [args.llamacpp / "llamacpp_sweep", args.llamacpp / "bins", model, folder / "vector.gguf", 0]
        command += [",".join(map(str, magnitudes)), text_of(steered.tokenizer, question(prompt)), TOKENS, 2]
        for result in json.loads(run(*command).stdout)["results"]:
            magnitude = float(result["magnitude"])
            prompt_ids = encode(steered.tokenizer, question(prompt))
            compare(result["token_ids"], ours[prompt, magnitude], prompt_ids, magnitude, steered, ties)
    release = (args.llamacpp / "release").read_text().strip()
    report_texts(f"llama.cpp {release} with the exported control vector, {name}", len(ours), ties, near_tie)


def check_gemma(args):
    """Compares a base model with llama.cpp: plain prompts, and blocks of two kinds. The vector is that of make_gemma3.py."""
    model, tokenizer = load(args.gemma_f32_model)
    values, vector = args.work_dir / "gemma.npy", args.work_dir / "gemma.safetensors"
    numpy.save(values, (3 * numpy.sin(1.7 * numpy.arange(model.config.hidden_size))).astype("float32"))
    run(args.bipo, "convert", "--force", "--quiet", "--layer", GEMMA_LAYER, values, vector)
    ours = bipo_sweeps(args, vector, "all", GEMMA_MAGNITUDES, args.gemma_f32_model)
    moved = [ids != ours[prompt, 0.0] for (prompt, magnitude), ids in ours.items() if magnitude]
    report(all(moved), f"on Gemma 3 the vector changes {sum(moved)} of {len(moved)} texts")
    check_llama_cpp(args, args.gemma_f32_model, ours, Steered(model, tokenizer, vector, "all"), GEMMA_NEAR_TIE)


def check_card(args, model, tokenizer, vector):
    """Runs the model card's example with the names of model and vector changed, and nothing else."""
    folder = args.work_dir / "model"
    # The weights are f32; transformers still takes a model that came from a GGUF file for a quantised one, and saves none.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = (vector.parent / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    code = re.sub(r'from_pretrained\(".*?"\)', lambda _: f"from_pretrained({str(folder)!r})", code)
    code = code.replace(f'"{vector.name}"', repr(str(vector)))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    prompt, magnitude, tokens = "How was your day?", 2, 64
    assert all(part in code for part in [f'"content": "{prompt}"', f", {magnitude}.0)", f"max_new_tokens={tokens}"]), code
    command = [args.bipo, "steer", "--json", "--quiet", "--model", args.f32_model, "--vector", vector, "--device", "cpu"]
    command += [f"--magnitudes={magnitude}", "--max-new-tokens", tokens, "--prompt", prompt]
    (result,) = json.loads(run(*command).stdout)["results"]
    text = printed.getvalue().split("<|im_start|>assistant\n")[-1].removesuffix("\n").removesuffix("<|im_end|>")
    report(text == result["text"], f"the card's example in transformers prints bipo's text ({len(text)} characters)")


def check_pt(args, vector):
    values = tensor_of(vector)
    ours = args.work_dir / "vector.pt"
    ours.unlink(missing_ok=True)
    run(args.bipo, "convert", vector, ours)
    loaded = torch.load(ours, weights_only=True)
    same = loaded.dtype == torch.float32 and torch.equal(loaded, values)
    report(same, f"torch.load(weights_only=True) gives the {len(values)} f32 of the converted .pt")
    kinds = {
        "bare tensor": values,
        "dict with v and config": {"v": values, "config": {"layer_idx": LAYER}},
        "Parameter": torch.nn.Parameter(values),
        "tensor that requires a gradient": values.clone().requires_grad_(),
        "half": values.half(),
        "bfloat16": values.bfloat16(),
        "double": values.double(),
        "one column of a matrix": torch.stack([2 * values, values], dim=1)[:, 1],
        "one row, shape [1, hidden]": values[None],
    }
    path = args.work_dir / "foreign.pt"
    for name, value in kinds.items():
        torch.save(value, path)
        tensor, layer = (value["v"], LAYER) if isinstance(value, dict) else (value, None)
        check_inspected(args, path, tensor, layer, name)
    torch.save(values, path, _use_new_zipfile_serialization=False)
    refusal = run(args.bipo, "inspect", path, code=2).stderr.strip()
    report("\n" not in refusal and "legacy" in refusal, f"legacy .pt is refused with exit code 2: {refusal.split(': ', 2)[-1]}")
    for authors in sorted(pathlib.Path("../shared/data/vectors").glob("*.pt")):
        check_inspected(args, authors, torch.load(authors, weights_only=True), None, f"the authors' {authors.name}")


def check_inspected(args, path, tensor, layer, name):
    """Tests that bipo reads the norm and layer that torch wrote, and converts to numbers that torch reads."""
    expected = float(tensor.detach().double().norm())
    (vector,) = json.loads(run(args.bipo, "inspect", "--json", path).stdout)["vectors"]
    (found,) = vector["layers"]
    passed = abs(found["norm"] - expected) < 1e-6 * expected and found["layer"] == layer
    converted = args.work_dir / "converted.npy"
    run(args.bipo, "convert", "--force", "--quiet", "--layer", LAYER, path, converted)
    passed = passed and (numpy.load(converted) == tensor.detach().float().flatten().numpy()).all()
    report(passed, f".pt of torch, {name}: norm {found['norm']:.6f}, by torch {expected:.6f}; the same {tensor.numel()} numbers")


def tensor_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    begin, end = header[f"layer.{LAYER}"]["data_offsets"]
    return torch.frombuffer(bytearray(data[8 + length + begin : 8 + length + end]), dtype=torch.float32)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the bipo program")
    parser.add_argument("--llamacpp", type=pathlib.Path, required=True, help="the folder that scripts/fetch-llamacpp.sh printed")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="SmolLM2 as a .gguf file")
    parser.add_argument("--f32-model", type=pathlib.Path, required=True, help="the same model with f32 weights (gguf_to_f32.py)")
    parser.add_argument("--gemma-f32-model", type=pathlib.Path, required=True, help="Gemma 3 270M with f32 weights")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
