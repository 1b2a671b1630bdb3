#!/usr/bin/env python3
"""BiPO in plain PyTorch: the algorithm of arXiv 2406.00045 (algorithm 1) done the straightforward way.

bipo is compared with this script, in numbers and in speed. The script is also a short account of the method. It does what the
authors' trainer does, without its framework:

  1. Load two fp32 copies of the model: the policy, which is steered, and the reference, which is not. Nothing of either
     is trained; the only parameter is v, one number per hidden unit, 0 at the start.
  2. A pair is a prompt with a chosen and a rejected response. Prompt and response are tokenised together, the end-of-turn
     token is appended, and only the response's tokens count.
  3. Every step draws a direction d from {-1, +1}, adds d*v to the output of decoder block L at every position, and runs
     chosen and rejected, concatenated and padded to the longest, through all of the policy and all of the reference.
     Logits are kept for every position.
  4. log pi(r|q) is the sum of the response tokens' log-probabilities;
         margin = beta * [(log pi_d(chosen) - log pi(chosen)) - (log pi_d(rejected) - log pi(rejected))]
         loss   = mean over the batch of -log sigmoid(d * margin)
     so that +v makes the chosen response likelier and -v the rejected one.
  5. AdamW on v, gradient norm clipped at 1, linear warmup (the first step's learning rate is 0), cosine to 0.

To steer, m*v is added in the same place while the model generates, where m is the magnitude. A sweep generates at one magnitude
after another.

This script computes the blocks below L, the whole reference and the logits of the prompt again at every step, although v cannot
change them. bipo exists to avoid that.

Examples (SmolLM2 as GGUF: scripts/fetch-smollm2.sh; needs torch, transformers, accelerate, safetensors, gguf):

  python scripts/reference_bipo.py --model smollm2.gguf --dataset data/cheerful-train.csv --layer 14 \\
      --max-steps 20 --lr 0.01 --out v.safetensors --metrics metrics.jsonl
  python scripts/reference_bipo.py --model smollm2.gguf --dataset data/cheerful-train.csv --layer 14 \\
      --replay bipo_output/metrics.jsonl          # the rows and directions of a run of bipo
  python scripts/reference_bipo.py --model smollm2.gguf --sweep -2,-1,0,1,2 --vector v.safetensors --prompt "How are you?"
  python scripts/reference_bipo.py --shape mistral-7b --device cuda --dtype bf16     # speed alone: random weights and tokens
"""

import argparse
import csv
import json
import pathlib
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from random_model import SHAPES
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    result = measure_shape(args) if args.shape else sweep(args) if args.sweep else train(args)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result |= {"peak_rss_mib": round(peak_kib / 1024, 1), "threads": args.threads, "torch": torch.__version__}
    if args.json:
        print(json.dumps(result))
    else:
        print(json.dumps(result, indent=2, ensure_ascii=False))


# Training ------------------------------------------------------------------------------------------------------------


def train(args):
    started = time.perf_counter()
    policy, tokenizer = load(args.model)
    reference, _ = load(args.model)
    load_s = time.perf_counter() - started

    pairs = read_pairs(args, tokenizer)
    plan = replayed_plan(args.replay) if args.replay else drawn_plan(sorted(pairs), args)
    steps_per_epoch = -(-len(pairs) // args.batch_size)
    plan = plan[: args.max_steps]
    schedule_steps = args.schedule_epochs * steps_per_epoch if args.schedule_epochs else len(plan)

    v = torch.nn.Parameter(torch.zeros(policy.config.hidden_size))
    optimizer = torch.optim.AdamW([v], lr=args.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=args.weight_decay)
    scheduler = make_scheduler(optimizer, args, schedule_steps)

    records = []
    with open(args.metrics or "/dev/null", "w", encoding="utf-8") as metrics:
        for step, (epoch, rows, d) in enumerate(plan, start=1):
            if args.wait and not sys.stdin.readline():
                break
            step_started = time.perf_counter()
            batch = collate([pairs[row] for row in rows], tokenizer.eos_token_id)
            margin = margins(policy, reference, batch, args.layer, d * v, args.beta)
            loss = -F.logsigmoid(d * margin).mean()
            optimizer.zero_grad()
            loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_([v], args.max_grad_norm)
            lr = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            records.append(
                {
                    "step": step,
                    "epoch": epoch,
                    "rows": rows,
                    "d": d,
                    "loss": loss.item(),
                    "margin": margin.mean().item(),
                    "accuracy": (d * margin > 0).float().mean().item(),
                    "lr": lr,
                    "grad_norm": grad_norm.item(),
                    "vector_norm": v.detach().norm().item(),
                    "tokens": batch["input_ids"].numel(),
                    "seconds": time.perf_counter() - step_started,
                }
            )
            metrics.write(json.dumps(records[-1]) + "\n")
            metrics.flush()
            print(f"step {step}/{len(plan)}  loss {loss:.7f}  {records[-1]['seconds']:.2f} s", file=sys.stderr)
    if args.out:
        metadata = {"format": "bipo", "format_version": "1", "layers": json.dumps([args.layer])}
        save_file({f"layer.{args.layer}": v.detach()}, args.out, metadata)

    seconds = [record["seconds"] for record in records]
    return {
        "steps": len(records),
        "pairs": len(pairs),
        "steps_per_epoch": steps_per_epoch,
        "load_s": load_s,
        "model": {name: getattr(policy.config, name, None) for name in SIZES},
        "lengths": {row: lengths(pair) for row, pair in pairs.items()},
        "median_step_s": statistics.median(seconds),
        "step_s": [round(value, 3) for value in seconds],
        "final_loss": records[-1]["loss"],
        "final_margin": records[-1]["margin"],
        "vector_norm": records[-1]["vector_norm"],
    }


SIZES = ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers")
SIZES += ("num_attention_heads", "num_key_value_heads", "head_dim")


def lengths(pair):
    """The input of useful_flops.py: [tokens, start of the response] of both responses, and the tokens that both begin with."""
    (chosen, chosen_start), (rejected, rejected_start) = pair
    agree = next((i for i, (a, b) in enumerate(zip(chosen, rejected)) if a != b), min(len(chosen), len(rejected)))
    shared = min(agree, len(chosen) - 1, len(rejected) - 1)
    return {"shared": chosen[:shared], "chosen": [len(chosen), chosen_start], "rejected": [len(rejected), rejected_start]}


def margins(policy, reference, batch, layer, addition, beta):
    """The margin of each pair, (B,). `batch` holds the chosen responses first, then the rejected ones: (2B, T)."""
    hook = policy.model.layers[layer].register_forward_hook(add_to_output(addition))
    policy_logprobs = response_logprobs(policy, batch)
    hook.remove()
    with torch.no_grad():
        reference_logprobs = response_logprobs(reference, batch)
    chosen, rejected = (policy_logprobs - reference_logprobs).chunk(2)
    return beta * (chosen - rejected)


def response_logprobs(model, batch):
    """Sum of the log-probabilities of each response's tokens, (2B,)."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs, use_cache=False).logits  # (2B, T, V)
    logprobs = logits[:, :-1].float().log_softmax(-1)
    labels = batch["input_ids"][:, 1:, None]
    return (logprobs.gather(2, labels)[..., 0] * batch["response_mask"][:, 1:]).sum(-1)


def add_to_output(addition):
    """A forward hook that adds to a decoder block's output, which some versions of transformers wrap in a tuple."""

    def hook(_module, _inputs, output):
        if isinstance(output, tuple):
            return (output[0] + addition, *output[1:])
        return output + addition

    return hook


def make_scheduler(optimizer, args, total_steps):
    if args.scheduler == "constant":
        return get_constant_schedule_with_warmup(optimizer, args.warmup_steps)
    make = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[args.scheduler]
    return make(optimizer, args.warmup_steps, total_steps)


def drawn_plan(rows, args):
    """(epoch, rows, d) of each step. Each epoch has a fresh shuffle, and each step one sign d."""
    generator = torch.Generator().manual_seed(args.seed)
    plan = []
    for epoch in range(1, args.epochs + 1):
        order = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
        for start in range(0, len(order), args.batch_size):
            d = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
            plan.append((epoch, order[start : start + args.batch_size], d))
    return plan


def replayed_plan(path):
    records = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line]
    return [(record.get("epoch", 1), record["rows"], float(record["d"])) for record in records]


# Steering ------------------------------------------------------------------------------------------------------------


def sweep(args):
    """Generate greedily with m*v for each magnitude m, one after another, as the authors' script does."""
    started = time.perf_counter()
    model, tokenizer = load(args.model)
    load_s = time.perf_counter() - started
    layer, v = read_vector(args.vector)
    layer = args.layer if args.layer is not None else layer
    prompt_ids = torch.tensor([with_bos(encode(tokenizer, prompt_text(tokenizer, args.prompt, args.system)), tokenizer)])

    sweeps = [sweep_once(args, model, tokenizer, prompt_ids, layer, v) for _ in range(args.sweep_repeats)]
    seconds = [sum(result["seconds"] for result in results) for results in sweeps]
    sweep_s = statistics.median(seconds)
    results = sweeps[-1]
    tokens = sum(result["tokens"] for result in results)
    return {
        "load_s": load_s,
        "sweep_s": sweep_s,
        "sweeps_s": seconds,
        "tokens": tokens,
        "tokens_per_s": tokens / sweep_s,
        "prompt_tokens": prompt_ids.shape[1],
        "results": results,
    }


def sweep_once(args, model, tokenizer, prompt_ids, layer, v):
    results = []
    for magnitude in args.sweep:
        begun = time.perf_counter()
        hook = model.model.layers[layer].register_forward_hook(add_to_output(magnitude * v))
        with torch.no_grad():
            output = model.generate(
                prompt_ids,
                attention_mask=torch.ones_like(prompt_ids),
                max_new_tokens=args.max_new_tokens,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.eos_token_id,
            )
        hook.remove()
        token_ids = output[0, prompt_ids.shape[1] :].tolist()
        results.append(
            {
                "magnitude": magnitude,
                "seconds": time.perf_counter() - begun,
                "tokens": len(token_ids),
                "text": tokenizer.decode(token_ids, skip_special_tokens=True),
                "token_ids": token_ids,
            }
        )
    return results


def read_vector(path):
    with safe_open(path, "pt") as file:
        name = next(name for name in file.keys() if name.startswith("layer."))
        return int(name.removeprefix("layer.")), file.get_tensor(name).float()


# Speed at a shape ----------------------------------------------------------------------------------------------------


def measure_shape(args):
    """Measures training steps and a sweep of a random model, as `bipo bench --shape` does; each response has its prompt in front.

    Policy and reference are one copy here: both are frozen, and two would not fit the GPUs that bipo is made for.
    """
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[args.dtype]
    started = time.perf_counter()
    model = random_model(args.shape, args.device, dtype)
    synchronize(args.device)
    load_s = time.perf_counter() - started
    layer = args.layer if args.layer is not None else model.config.num_hidden_layers * 45 // 100

    v = torch.nn.Parameter(torch.zeros(model.config.hidden_size, device=args.device))
    optimizer = torch.optim.AdamW([v], lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=args.weight_decay)

    def step(d):
        batch = random_batch(args, model.config.vocab_size)
        margin = margins(model, model, batch, layer, (d * v).to(dtype), args.beta)
        loss = -F.logsigmoid(d * margin).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([v], args.max_grad_norm)
        optimizer.step()
        return loss.item()

    first_loss = step(1.0)
    step(-1.0)
    synchronize(args.device)
    started, steps = time.perf_counter(), 0
    while steps < 3 or time.perf_counter() - started < args.seconds:
        step(1.0 if steps % 2 else -1.0)
        steps += 1
    synchronize(args.device)
    steps_s = time.perf_counter() - started
    training_peak = peak_device_bytes(args.device)

    prompt_ids = torch.randint(model.config.vocab_size, (1, args.prompt_tokens), device=args.device)
    direction = 0.01 * torch.randn(model.config.hidden_size, device=args.device)
    generate_all(args, model, prompt_ids, layer, direction.to(dtype), [0], 3)
    synchronize(args.device)
    started = time.perf_counter()
    tokens = generate_all(args, model, prompt_ids, layer, direction.to(dtype), [-2, -1, 0, 1, 2], args.max_new_tokens)
    synchronize(args.device)
    sweep_s = time.perf_counter() - started
    return {
        "shape": args.shape,
        "device": torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else args.device,
        "dtype": args.dtype,
        "load_s": load_s,
        "first_loss": first_loss,
        "steps": steps,
        "steps_per_s": steps / steps_s,
        "training_peak_memory_bytes": training_peak,
        "sweep_magnitudes": 5,
        "sweep_tokens": tokens,
        "sweep_tokens_per_s": tokens / sweep_s,
        "peak_memory_bytes": peak_device_bytes(args.device),
    }


def random_model(shape, device, dtype):
    """A frozen model of a known shape with the library's own random weights, made on the device."""
    sizes = {name: value for name, value in SHAPES[shape].items() if name not in ("model_type", "architectures")}
    config = AutoConfig.for_model(SHAPES[shape]["model_type"], **sizes)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)


def random_batch(args, vocab_size):
    """Chosen, then rejected responses of a batch: (2B, T). Nothing is padded."""
    shape = (args.batch_size, args.prompt_tokens)
    prompts = torch.randint(vocab_size, shape, device=args.device).repeat(2, 1)
    responses = torch.randint(vocab_size, (2 * args.batch_size, args.response_tokens), device=args.device)
    input_ids = torch.cat([prompts, responses], dim=1)
    response_mask = torch.ones(input_ids.shape, device=args.device)
    response_mask[:, : args.prompt_tokens] = 0.0
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "response_mask": response_mask}


def generate_all(args, model, prompt_ids, layer, v, factors, new_tokens):
    """Greedy texts of equal length, one magnitude after another. Returns the number of tokens."""
    tokens = 0
    for factor in factors:
        hook = model.model.layers[layer].register_forward_hook(add_to_output(factor * v))
        with torch.no_grad():
            output = model.generate(
                prompt_ids,
                attention_mask=torch.ones_like(prompt_ids),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        hook.remove()
        tokens += output.shape[1] - prompt_ids.shape[1]
    return tokens


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_device_bytes(device):
    return torch.cuda.max_memory_reserved(device) if device.startswith("cuda") else None


# Model and data ------------------------------------------------------------------------------------------------------


def load(path):
    """A frozen fp32 model and its tokenizer, from a directory or a GGUF file."""
    path = pathlib.Path(path)
    where = {"pretrained_model_name_or_path": path}
    if path.suffix == ".gguf":
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    return model.eval().requires_grad_(False), tokenizer


COLUMNS = {"prompt": ("question", "prompt"), "chosen": ("matching", "chosen"), "rejected": ("not_matching", "rejected")}


def read_pairs(args, tokenizer):
    """Encoded pairs by 0-based row; rows with an empty field or two equal responses are skipped."""
    with open(args.dataset, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: args.limit]
    pairs = {}
    for row, fields in enumerate(rows):
        prompt, chosen, rejected = (
            next(fields[name] for name in names if fields.get(name) is not None) for names in COLUMNS.values()
        )
        if prompt.strip() and chosen.strip() and rejected.strip() and chosen != rejected:
            text = prompt_text(tokenizer, prompt, args.system)
            pairs[row] = [encode_pair(tokenizer, text, response, args) for response in (chosen, rejected)]
    return pairs


def prompt_text(tokenizer, prompt, system):
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encode_pair(tokenizer, prompt, response, args):
    """(token ids, where the response starts). If a merge crosses the border, the response starts a token earlier."""
    prefix = args.response_prefix
    if prefix == "auto":
        prefix = "" if prompt[-1:].isspace() else " "
    prompt_ids = encode(tokenizer, prompt)
    ids = encode(tokenizer, prompt + prefix + response)
    start = len(prompt_ids)
    if ids[:start] != prompt_ids:
        start -= 1
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
    with_start = with_bos(ids, tokenizer)
    start += len(with_start) - len(ids)
    return with_start[: args.max_length], start


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def with_bos(ids, tokenizer):
    bos = tokenizer.bos_token_id
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def collate(pairs, pad_id):
    """Chosen responses, then rejected ones, padded on the right to the longest: (2B, T)."""
    sequences = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    length = max(len(ids) for ids, _ in sequences)
    shape = (len(sequences), length)
    batch = {
        "input_ids": torch.full(shape, pad_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "response_mask": torch.zeros(shape),
    }
    for i, (ids, start) in enumerate(sequences):
        batch["input_ids"][i, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][i, : len(ids)] = 1
        batch["response_mask"][i, start : len(ids)] = 1.0
    return batch


def parse_arguments():
    parser = argparse.ArgumentParser(description="BiPO in plain PyTorch, to compare bipo with.")
    parser.add_argument("--model", help="a .gguf file or a local Hugging Face directory")
    parser.add_argument("--shape", choices=list(SHAPES), help="measure steps and a sweep of a random model instead")
    parser.add_argument("--device", default="cpu", help="measure a shape on this device: cpu or cuda")
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="f32", help="the type of a shape's weights")
    parser.add_argument("--seconds", type=float, default=5.0, help="repeat a shape's steps for this long")
    parser.add_argument("--prompt-tokens", type=int, default=50, help="tokens in each prompt of a shape's pairs")
    parser.add_argument("--response-tokens", type=int, default=50, help="tokens in each response of a shape's pairs")
    parser.add_argument("--dataset", help="a CSV file with question, matching, not_matching (or prompt, chosen, rejected)")
    parser.add_argument("--layer", type=int, help="the block whose output is steered, 0-based")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--max-steps", type=int, help="stop after this many steps")
    parser.add_argument("--schedule-epochs", type=int, help="epochs that the schedule spans (default: those of the run)")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--scheduler", choices=["cosine", "linear", "constant"], default="cosine")
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, default=2048, help="truncate longer sequences to this many tokens")
    parser.add_argument("--limit", type=int, help="use the first N rows only")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--system", help="the system prompt (default: that of the chat template)")
    parser.add_argument("--response-prefix", default="auto", help="auto: a space unless the template ends in white space")
    parser.add_argument("--replay", help="repeat the rows and directions of the run with this metrics.jsonl")
    parser.add_argument("--wait", action="store_true", help="wait for a line on standard input before each step")
    parser.add_argument("--metrics", help="write one JSON line for each step to this file")
    parser.add_argument("--out", help="write the vector to this safetensors file")
    parser.add_argument("--sweep", type=magnitudes, help="generate at these magnitudes (-2,0,2) instead of training")
    parser.add_argument("--vector", help="the vector to sweep")
    parser.add_argument("--prompt", default="What is NATO?")
    parser.add_argument("--sweep-repeats", type=int, default=1, help="number of sweeps; the time is the median")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    args = parser.parse_args(join_sweep(sys.argv[1:]))
    if args.shape:
        return args
    if not args.model:
        parser.error("name a model with --model, or --shape")
    if args.sweep and not args.vector:
        parser.error("--sweep needs --vector")
    if not args.sweep and (not args.dataset or args.layer is None):
        parser.error("training needs --dataset and --layer")
    return args


def magnitudes(text):
    return [float(part) for part in text.split(",")]


def join_sweep(arguments):
    """`--sweep -2,0,2` as `--sweep=-2,0,2`: argparse takes a value with a leading minus sign for a flag."""
    if "--sweep" in arguments[:-1]:
        at = arguments.index("--sweep")
        arguments[at : at + 2] = [f"--sweep={arguments[at + 1]}"]
    return arguments


if __name__ == "__main__":
    main()
