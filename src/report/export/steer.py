"""Generate text with a steering vector in pyvene.

  python steer.py PROMPT [MAGNITUDE]

Magnitude 0 is the untouched model.
"""
import sys

import pyvene
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = {model}
prompt, m = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else {magnitude}

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto").eval()
vectors = {int(name.split(".")[1]): v.to(model.device) for name, v in load_file("vector.safetensors").items()}


def steer(v):
    def change(h, source):  # what the block gave, at the tokens that are steered
        h, dtype = h.float(), h.dtype
        return ({operation}).to(dtype)

    return change


intervenable = pyvene.IntervenableModel(
    [{"component": f"model.layers[{layer}].output", "intervention": steer(v)} for layer, v in vectors.items()], model=model
)
messages = [{"role": "user", "content": prompt}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
n = inputs["input_ids"].shape[1]
with torch.no_grad():
    _, output = intervenable.generate(inputs, {tokens}, max_new_tokens={max_tokens}, do_sample=False)
print(tokenizer.decode(output[0, n:], skip_special_tokens=True))
