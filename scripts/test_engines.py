"""Test what `bipo export` writes in the engines themselves; scripts/test-interop.sh runs it.

Prints one line for each test and exits with 1 if one fails. In f32, the greedy tokens of an engine must be bipo's. `transformers` runs
the merged models that vLLM gets: of a Llama, a Mistral and a Qwen2 with random weights, and of SmolLM2. lm-evaluation-harness and pyvene
run a Llama with random weights and SmolLM2. llama.cpp is tested by test_interop.py.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import torch
from lm_eval.models.hf_steered import SteeredModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config

import bipo

PROMPT = "How was your day?"
TOKENS = 24
SIZES = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
# A Mistral whose window is active computes something else than a Llama.
FAMILIES = {"llama": LlamaConfig(**SIZES), "mistral": MistralConfig(**SIZES, sliding_window=None), "qwen2": Qwen2Config(**SIZES)}
failures = []


def main():
    args = parse_arguments()
    shutil.rmtree(args.work_dir, ignore_errors=True)
    args.work_dir.mkdir(parents=True)
    models = {name: random_model(args, name, config) for name, config in FAMILIES.items()} | {"smollm2": args.hf_model}
    for name, folder in models.items():
        tester = Tester(args, name, folder)
        tester.check_merged()
        if name in ("llama", "smollm2"):
            tester.check_lm_eval()
            tester.check_pyvene()
    sys.exit(1 if failures else 0)


def random_model(args, name, config):
    """A model whose weights are large enough that its tokens have no near-ties, with the tokenizer of the tests' Llama."""
    folder = args.work_dir / f"{name}-random"
    source = pathlib.Path(__file__).parent.parent / "tests/fixtures/llama"
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    config.vocab_size = len(tokenizer["model"]["vocab"])
    config.initializer_range, config.bos_token_id, config.eos_token_id = 0.5, 1, 2
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / file, folder)
    return folder


class Tester:
    def __init__(self, args, name, folder):
        self.args, self.name, self.folder = args, name, folder.absolute()
        config = json.loads((folder / "config.json").read_text())
        self.layer = config["num_hidden_layers"] // 2
        self.magnitude = 1.5
        v = torch.randn(config["hidden_size"], generator=torch.Generator().manual_seed(2))
        self.vector = args.work_dir / f"{name}.safetensors"
        save_file({f"layer.{self.layer}": v * (2.0 if name == "smollm2" else 1.0)}, self.vector)
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        inputs = tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], add_generation_prompt=True, return_dict=True)
        self.ids = torch.tensor([inputs["input_ids"]])

    def bipo(self, *command):
        done = subprocess.run([str(part) for part in (self.args.bipo, *command)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
        return done.stdout

    def steered(self, magnitude, vector=None, **flags):
        """bipo's greedy answer."""
        command = ["steer", "--json", "--quiet", "--device", "cpu", "--dtype", "f32", "--model", self.folder, "--vector", vector or self.vector]
        command += [f"--magnitudes={magnitude}", "--max-new-tokens", TOKENS, "--prompt", PROMPT]
        command += [word for name, value in flags.items() for word in (f"--{name}", value)]
        return json.loads(self.bipo(*command))["results"][0]

    def export(self, to, magnitude, vector=None):
        out = self.args.work_dir / f"{self.name}-{to}"
        shutil.rmtree(out, ignore_errors=True)
        command = ["export", vector or self.vector, "--to", to, f"--magnitude={magnitude}", "--model", self.folder, "--out", out]
        self.bipo(*command, "--quiet")
        return out

    def report(self, passed, what):
        print(f"{'ok' if passed else 'FAILED'}: {self.name}: {what}", flush=True)
        if not passed:
            failures.append(what)

    def check_tokens(self, theirs, ours, what):
        plain = self.steered(0)["token_ids"]
        self.report(theirs == ours != plain, f"{what}: {len(ours)} greedy tokens are bipo's, {unlike(ours, plain)} without the vector")

    def check_merged(self):
        folder = self.export("vllm-merged", self.magnitude)
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        complete = not info["missing_keys"] and not info["unexpected_keys"]
        self.report(complete and type(model).__name__ == "LlamaForCausalLM", "the merged model is a whole LlamaForCausalLM in transformers")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        original = AutoTokenizer.from_pretrained(self.folder)
        text = "<s>[user] I'm 12 years old; übrigens:\n\n  Hello</s>"
        self.report(tokenizer.encode(text) == original.encode(text), "its tokenizer encodes as the model's")
        self.check_tokens(generated(model, self.ids), self.steered(self.magnitude)["token_ids"], "the merged model")

    def check_lm_eval(self):
        ablated = self.ablated()
        kinds = [(self.vector, self.magnitude, {}), (ablated, 1, {"operation": "ablate"})]
        for vector, magnitude, flags in kinds:
            path = self.export("lm-eval", magnitude, vector) / "steer.pt"
            torch.load(path, weights_only=True)
            steered = SteeredModel(pretrained=str(self.folder), steer_path=str(path), device="cpu", dtype="float32")
            what = "lm-eval, ablated" if flags else "lm-eval"
            with torch.no_grad():
                answer = steered._model_generate(self.ids, self.ids.shape[1] + TOKENS, [], do_sample=False)
                theirs = steered._model_call(self.ids)
                plain = steered.model(self.ids).logits
                if not flags:
                    with bipo.apply(steered.model, vector, magnitude):
                        ours = steered.model(self.ids).logits
                    worst, change = (theirs - ours).abs().max(), (ours - plain).abs().max()
                    self.report(worst < 1e-4 < change, f"{what}: logits differ from bipo.apply's by {worst:.1e}; the vector changes them by {change:.1e}")
            answer = until_the_end(answer[0, self.ids.shape[1] :].tolist(), steered.model)
            self.check_tokens(answer, self.steered(magnitude, vector, **flags)["token_ids"], what)

    def check_pyvene(self):
        rules = ["all", "response", "prompt", "last"]
        kinds = [(self.positioned(rule), self.magnitude, {"positions": rule}) for rule in rules]
        for vector, magnitude, flags in [*kinds, (self.ablated(), 1, {"operation": "ablate"})]:
            folder = self.export("pyvene", magnitude, vector)
            script = folder / "steer.py"
            script.write_text(script.read_text().replace("max_new_tokens=64", f"max_new_tokens={TOKENS}"))
            done = subprocess.run([sys.executable, "steer.py", PROMPT], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            ours = self.steered(magnitude, vector, **flags)["text"]
            # pyvene itself prints a line when it is imported.
            theirs = done.stdout.split("for nnsight backend.\n")[-1].removesuffix("\n")
            how = unlike(ours, self.steered(0)["text"])
            what = f"pyvene, {' '.join(flags.values())}: the text is bipo's, {how} without the vector"
            if theirs == ours and how != "unlike that":
                print(f"shows nothing: {self.name}: {what}", flush=True)
            else:
                self.report(theirs == ours, what)

    def ablated(self):
        path = self.vector.with_suffix(".ablate.safetensors")
        self.bipo("convert", self.vector, path, "--operation", "ablate", "--force", "--quiet")
        return path

    def positioned(self, rule):
        path = self.vector.with_suffix(f".{rule}.safetensors")
        tensors = load_file(self.vector)
        (v,) = tensors.values()
        sizes = {"layers": f"[{self.layer}]", "hidden_size": str(len(v))}
        save_file(tensors, path, {"format": "bipo", "format_version": "1", "positions": rule} | sizes)
        return path


def unlike(steered, plain):
    return "unlike that" if steered != plain else "the same as"


def generated(model, ids):
    with torch.no_grad():
        output = model.generate(ids, max_new_tokens=TOKENS, do_sample=False)
    return until_the_end(output[0, ids.shape[1] :].tolist(), model)


def until_the_end(ids, model):
    """The tokens up to the end of the turn, which is one of them, as bipo gives them."""
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    return ids[: next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the bipo program")
    parser.add_argument("--hf-model", type=pathlib.Path, required=True, help="the folder of SmolLM2 in f32 for transformers")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
