"""Measure bipo against the plain PyTorch reference (reference_bipo.py) on the same pairs; scripts/compare-pytorch.sh runs it.

Training: bipo does the whole run. PyTorch repeats the first N steps of that run, with the same rows and directions. The time of
PyTorch's whole run is extrapolated, and the table says so: time to load + median time of a padded token x padded tokens of all
steps. (It is counted in tokens because steps differ in length by a factor of three.) The losses of the N steps are compared too.
The two programs take turns, and each is paused while the other computes: PyTorch does a step after every SLICE_S seconds of bipo.
If other programs use the machine, both are then disturbed in the same way. Pauses are not counted.
A step in bf16 is timed by each program's own measurement of a random model: bipo bench and reference_bipo.py --shape.
Sweep: one prompt is answered at five magnitudes (factors on the vector that bipo trained), greedily. PyTorch's times leave out
the start of Python and the imports; bipo's times are those of the whole command. The project set the targets in the table.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import useful_flops
from measure import Running, measured_run, median_run, print_table, warn_if_busy

SLICE_S = 8
SCRIPTS = pathlib.Path(__file__).resolve().parent
SYSTEM = "You are a helpful, honest and concise assistant."


def main():
    args = parse_arguments()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    load = warn_if_busy()
    bipo_train, torch_train, difference = compare_training(args)
    bipo_sweep, torch_sweep = compare_sweep(args)
    bf16 = compare_bf16(args)

    steps = bipo_train.output["steps"]
    tokens, torch_token_s = padded_tokens(args, torch_train)
    torch_train_s = torch_train.output["load_s"] + tokens * torch_token_s
    torch_sweep_s = torch_sweep.output["load_s"] + torch_sweep.output["sweep_s"]
    torch_load_s = torch_train.output["load_s"] / 2  # it loads two copies
    speed = training_speed(args, bipo_train, torch_train)
    share = speed["flops_per_s"] / speed["ceiling_flops_per_s"]
    rows = [
        row(f"training, {steps} steps, s", torch_train_s, bipo_train.wall_s, "9x", "14x", note=" *"),
        ["training step once cached, median, GFLOP/s", f"{speed['ceiling_flops_per_s'] * 1e-9:.0f} **"]
        + [f"{speed['flops_per_s'] * 1e-9:.0f}", f"{share:.0%}", "75%", "85%"],
        ["training step in bf16, random weights, s", f"{bf16['torch_s']:.2f} ***", f"{bf16['bipo_s']:.2f}"]
        + [f"{bf16['torch_s'] / bf16['bipo_s']:.1f}x", *BF16_TARGETS.get(bf16["kernel"], ("", ""))],
        row("training, peak memory, MiB", torch_train.peak_mib, bipo_train.peak_mib, "4x", "6x"),
        row("load one model, s", torch_load_s, bipo_train.output["timings"]["load_s"]),
        row("sweep, load + generate, s", torch_sweep_s, bipo_sweep.wall_s, "6x", "12x"),
        row("  PyTorch's loading left out", torch_sweep.output["sweep_s"], bipo_sweep.wall_s),
        row("sweep, peak memory, MiB", torch_sweep.peak_mib, bipo_sweep.peak_mib),
    ]
    head = ["", f"PyTorch {torch_train.output['torch']}", "bipo", "ratio", "must reach", "aim for"]
    print_table(head, rows)
    load_s = torch_train.output["load_s"]
    print(
        f"\n* {load_s:.1f} s to load + {tokens} padded tokens x {torch_token_s * 1e3:.2f} ms, the median of {args.torch_steps} "
        f"steps; PyTorch's training was not run to the end. The losses of the two differ by at most {difference:.1e}."
    )
    explain(bipo_train, speed)
    print(f"*** Medians of {args.repeats} in turns, four pairs of 50 + 50 tokens; bipo multiplies bf16 by {bf16['kernel']}.")
    explain_sweep(args, bipo_sweep, torch_sweep)
    if args.json_file:
        result = {
            "load_average_before": load,
            "threads": args.threads,
            "bipo": {"train": vars(bipo_train), "sweep": vars(bipo_sweep)},
            "torch": {"train": vars(torch_train), "sweep": vars(torch_sweep), "train_s_extrapolated": torch_train_s},
            "training_speed": speed,
            "bf16": bf16,
            "largest_loss_difference": difference,
            "table": [dict(zip(["measure", *head[1:]], cells)) for cells in rows],
        }
        args.json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def padded_tokens(args, torch):
    """Tokens that PyTorch would compute in all steps of bipo's run, and its median time for a token in the steps that it did."""
    lengths = {int(row): max(pair["chosen"][0], pair["rejected"][0]) for row, pair in torch.output["lengths"].items()}
    steps = [[lengths[row] for row in record["rows"]] for record in records(args.work_dir / "bipo" / "metrics.jsonl")]
    tokens = [2 * len(step) * max(step) for step in steps]
    return sum(tokens), statistics.median(step_s / n for step_s, n in zip(torch.output["step_s"], tokens))


def explain(bipo, speed):
    rates = ", ".join(f"{rate * 1e-9:.0f} by {name}" for name, rate in speed["matmul_flops_per_s"].items())
    print(f"** This is not PyTorch's training but the best f32 matrix product measured in this run, GFLOP/s: {rates}.")
    print(f"{speed['flops'] * 1e-12:.1f} TFLOP in {speed['steps_s']:.1f} s of steps, counted by useful_flops.py;", end=" ")
    if speed["flops_by_bipo"] is None:
        print("bipo reports no count of its own.")
    else:
        print(f"bipo's own count is {speed['flops_by_bipo'] / speed['flops'] - 1:+.2%} off.")
    parts = {name: value for name, value in bipo.output["timings"].items() if name.endswith("_s")}
    print("bipo's time, s:", ", ".join(f"{name.removesuffix('_s')} {value:.2f}" for name, value in parts.items()), end="")
    print(f"; forward and backward with the {bipo.paused_s:.0f} s in which it was paused.")


def explain_sweep(args, bipo, torch):
    ours, theirs = bipo.output["results"], torch.output["results"]
    same = sum(a["token_ids"] == b["token_ids"] for a, b in zip(ours, theirs))
    print(
        f"Sweep: medians of {args.repeats}; {sum(len(result['token_ids']) for result in ours)} tokens by bipo, "
        f"{torch.output['tokens']} by PyTorch; the same text at {same} of {len(theirs)} magnitudes."
    )


def row(name, torch, bipo, must="", aim="", note=""):
    return [name, f"{torch:.1f}{note}", f"{bipo:.1f}", f"{torch / bipo:.1f}x", must, aim]


def training_speed(args, bipo, torch):
    """Useful floating-point operations a second of the median step, and the rate of the best matrix product."""
    lengths = {int(row): pair for row, pair in torch.output["lengths"].items()}
    flops, rates_of_steps = 0, []
    steps = records(args.work_dir / "bipo" / "metrics.jsonl")
    for record in steps:
        pairs = [lengths[row] for row in record["rows"]]
        if useful_flops.step_rows(pairs) != record["tokens"]:
            print(f"warning: step {record['step']}: bipo computed {record['tokens']} tokens", file=sys.stderr)
        of_step = useful_flops.step_flops(torch.output["model"], args.layer, pairs)
        rates_of_steps.append(of_step / record["seconds"])  # too low where a pause is in the step: few are
        flops += of_step
    rates = {"PyTorch": matmul_rate(args)}
    if args.matmul_gflops:
        rates["bipo's library"] = args.matmul_gflops * 1e9
    return {
        "flops": flops,
        "flops_by_bipo": bipo.output["timings"].get("flops"),
        "steps_s": sum(record["seconds"] for record in steps) - bipo.paused_s,
        "flops_per_s": statistics.median(rates_of_steps),
        "matmul_flops_per_s": rates,
        "ceiling_flops_per_s": max(rates.values()),
    }


MATMUL = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
best = 0.0
for m, k, n in [(512, 576, 3072), (512, 1536, 576), (1024, 1024, 1024), (2048, 2048, 2048)]:
    a, b = torch.randn(m, k), torch.randn(n, k).T
    for _ in range(8):
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * m * k * n / (time.perf_counter() - begun))
print(best)
"""


def matmul_rate(args):
    command = [str(args.python), "-c", MATMUL, str(args.threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# What a step in bf16 must reach and aims for, by the kernel that the processor has instructions for.
BF16_TARGETS = {"amx": ("6x", "10x"), "avx512bf16": ("5x", "8x")}


def compare_bf16(args):
    """Seconds of a training step in bf16 of a model of SmolLM2's shape with random weights, by each program."""
    same = ["--shape", "smollm2-135m", "--dtype", "bf16", "--device", "cpu", "--threads", str(args.threads), "--json"]
    bipo = [args.bipo, "bench", *same, "--sweeps", "1", "--new-tokens", "2"]
    torch = [args.python, SCRIPTS / "reference_bipo.py", *same, "--max-new-tokens", "2"]
    seconds, kernel = {"bipo": [], "torch": []}, None
    for _ in range(args.repeats):
        for name, command in (("bipo", bipo), ("torch", torch)):
            command = [str(part) for part in command]
            print("$", " ".join(command), file=sys.stderr)
            output = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            kernel = output.get("product_kernel", kernel)
            seconds[name].append(1 / output.get("training", output)["steps_per_s"])
    return {"kernel": kernel, **{f"{name}_s": statistics.median(times) for name, times in seconds.items()}}


def compare_training(args):
    run = args.work_dir / "bipo"
    same = ["--model", args.model, "--dataset", args.dataset, "--layer", args.layer, "--limit", args.rows]
    same += ["--epochs", args.epochs, "--batch-size", args.batch_size, "--lr", args.lr, "--warmup-steps", 100]
    same += ["--system", SYSTEM, "--threads", args.threads, "--json"]
    metrics, torch_metrics = run / "metrics.jsonl", args.work_dir / "torch-metrics.jsonl"
    for path in (metrics, torch_metrics):
        path.unlink(missing_ok=True)
    bipo = Running(
        [args.bipo, "train", *same, "--device", "cpu", "--dtype", "f32", "--output-dir", run, "--overwrite"],
        args.work_dir / "bipo-train.log",
    )
    bipo.wait_for(lambda: len(records(metrics)) >= args.torch_steps)
    replay = ["--replay", metrics, "--schedule-epochs", args.epochs, "--max-steps", args.torch_steps, "--wait"]
    torch = None

    def load_torch():
        nonlocal torch
        command = [args.python, SCRIPTS / "reference_bipo.py", *same, *replay, "--metrics", torch_metrics]
        torch = Running(command, args.work_dir / "torch-train.log")
        torch.wait_for(torch_metrics.exists)

    def step_of_torch():
        done = len(records(torch_metrics))
        torch.say("")
        torch.wait_for(lambda: len(records(torch_metrics)) > done)

    bipo.while_paused(load_torch)
    for _ in range(args.torch_steps):
        bipo.while_paused(step_of_torch)
        time.sleep(SLICE_S)
    torch, paused_s, bipo = torch.finish(), bipo.paused_s, bipo.finish()
    bipo.paused_s = paused_s
    pairs = zip(records(metrics), records(torch_metrics))
    return bipo, torch, max(abs(ours["loss"] - theirs["loss"]) for ours, theirs in pairs)


def records(path):
    """The steps recorded in a file; none if the file does not exist yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def compare_sweep(args):
    same = ["--model", args.model, "--vector", args.work_dir / "bipo" / "steering_vector.safetensors"]
    same += ["--prompt", args.prompt, "--system", SYSTEM, "--max-new-tokens", 64, "--threads", args.threads, "--json"]
    bipo = median_run(
        [args.bipo, "steer", *same, f"--magnitudes={args.magnitudes}", "--device", "cpu", "--dtype", "f32"],
        args.work_dir / "bipo-steer.log",
        args.repeats,
    )
    torch = measured_run(
        [args.python, SCRIPTS / "reference_bipo.py", *same, f"--sweep={args.magnitudes}", "--sweep-repeats", args.repeats],
        args.work_dir / "torch-steer.log",
    )
    return bipo, torch


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the bipo program")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a .gguf file or a local directory")
    parser.add_argument("--dataset", type=pathlib.Path, required=True, help="a CSV file of pairs")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True, help="the folder for runs and logs")
    parser.add_argument("--rows", type=int, default=200, help="use the first N rows of the dataset")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--layer", type=int, default=14)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch-steps", type=int, default=20, help="number of PyTorch's steps that are timed")
    parser.add_argument("--repeats", type=int, default=3, help="number of sweeps of each program; the median counts")
    parser.add_argument("--matmul-gflops", type=float, help="the rate of bipo's matrix products, measured in the same run")
    parser.add_argument("--prompt", default="Tell me about your plans for the weekend, and why you made them.")
    parser.add_argument("--magnitudes", default="-2,-1,0,1,2")
    parser.add_argument("--json-file", type=pathlib.Path, help="write all measurements to this JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
