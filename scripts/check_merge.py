#!/usr/bin/env python3
"""Check in `transformers` that a merged model computes what the original does with the vector added by the hook.

  bipo train --model ORIGINAL --output-dir OUT
  bipo merge --model ORIGINAL --vector OUT/steering_vector.safetensors --magnitude 2 -o MERGED
  python scripts/check_merge.py ORIGINAL OUT 2 MERGED

ORIGINAL is a folder with safetensors of a Llama architecture. The hook is the unchanged code of the model card OUT/README.md.
Both models run in f32, so that they differ only by rounding: by at most 1e-4 of the logits' spread. The bias of a model that is
stored in bf16 is rounded to bf16 (2^-9 of each element), so for such a model 2^-8 of the vector's own effect is allowed as well.
Needs torch, transformers and safetensors.
"""

import pathlib
import re
import sys

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["How was your day?", "What is the capital of France?", "Write a note to my landlord about the broken heating."]


def main(original, out, magnitude, merged):
    magnitude = float(magnitude)
    steer = hook_of(pathlib.Path(out) / "README.md")
    vector = str(pathlib.Path(out) / "steering_vector.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(merged)
    models = {}
    for name, folder in [("original", original), ("merged", merged)]:
        models[name], info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        assert not info["missing_keys"] and not info["unexpected_keys"], (folder, info)
    check_stored_bias(vector, magnitude, original, merged)

    worst = spread = change = 0.0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        plain = logits(models["original"], ids)
        hooks = steer(models["original"], vector, magnitude)
        steered = logits(models["original"], ids)
        for hook in hooks:
            hook.remove()
        baked = logits(models["merged"], ids)
        worst = max(worst, (baked - steered).abs().max().item())
        change = max(change, (steered - plain).abs().max().item())
        spread = max(spread, steered.std().item())
    print(f"logits: spread {spread:.3f}, the vector changes them by up to {change:.4f}, merged and hooked differ by {worst:.2e}")
    stored = AutoModelForCausalLM.from_pretrained(merged).dtype
    tolerance = 1e-4 * spread if stored == torch.float32 else 2**-8 * change + 1e-4 * spread
    assert worst < tolerance, f"more than {tolerance:.2e}"
    assert change > 10 * tolerance, "the vector does too little for a check: take a larger magnitude"
    print("ok")


def hook_of(card):
    """The function of the card's first Python block, up to the example that follows it."""
    block = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)[1]
    names = {}
    exec(block.split("from transformers import")[0], names)  # noqa: S102
    return names["steer"]


def check_stored_bias(vector, magnitude, original, merged):
    """Each steered block has a stored bias, which is m·v rounded once to the weights' type, where the original had none."""
    with safe_open(vector, "pt") as file:
        for name in file.keys():
            stored = f"model.layers.{name.split('.')[1]}.mlp.down_proj.bias"
            bias = tensor(merged, stored)
            assert bias is not None, f"{merged} has no {stored}"
            if tensor(original, stored) is not None:
                print(f"{stored}: {bias.dtype}, added to another bias")
                continue
            assert torch.equal(bias, (file.get_tensor(name).double() * magnitude).to(bias.dtype)), f"{stored} is not m·v"
            print(f"{stored}: {bias.dtype}, exact")


def tensor(folder, name):
    """A tensor of a model's shards; None if they have none of this name."""
    for shard in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        with safe_open(shard, "pt") as weights:
            if name in weights.keys():
                return weights.get_tensor(name)
    return None


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids, use_cache=False).logits[0]


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
