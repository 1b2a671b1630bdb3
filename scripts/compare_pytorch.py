"""Measure bipo against the plain PyTorch reference (reference_bipo.py) on the same pairs; scripts/compare-pytorch.sh runs it.

Training: bipo does the whole run. PyTorch repeats its first N steps (same rows, same directions), and its whole run is
load + median step x number of steps: an extrapolation, said so in the table. The losses of those N steps are compared too.
Sweep: one prompt, five magnitudes, greedy, from the vector that bipo trained. PyTorch's time leaves out the start of
Python and the imports; bipo's is the whole command.
"""

import argparse
import json
import pathlib
import sys

from measure import measured_run, print_table, warn_if_busy

SCRIPTS = pathlib.Path(__file__).resolve().parent
SYSTEM = "You are a helpful, honest and concise assistant."


def main():
    args = parse_arguments()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    load = warn_if_busy()
    bipo_train, torch_train, difference = compare_training(args)
    bipo_sweep, torch_sweep = compare_sweep(args)

    steps = bipo_train.output["steps"]
    torch_step_s = torch_train.output["median_step_s"]
    torch_train_s = torch_train.output["load_s"] + steps * torch_step_s
    torch_sweep_s = torch_sweep.output["load_s"] + torch_sweep.output["sweep_s"]
    bipo_tokens = sum(len(result["token_ids"]) for result in bipo_sweep.output["results"])
    same = sum(
        ours["token_ids"] == theirs["token_ids"]
        for ours, theirs in zip(bipo_sweep.output["results"], torch_sweep.output["results"])
    )
    rows = [
        row(f"training, {steps} steps, s", f"{torch_train_s:.1f} *", bipo_train.wall_s, torch_train_s),
        row("training, peak memory, MiB", None, bipo_train.peak_mib, torch_train.peak_mib),
        row("sweep, load + generate, s", None, bipo_sweep.wall_s, torch_sweep_s),
        row("sweep, peak memory, MiB", None, bipo_sweep.peak_mib, torch_sweep.peak_mib),
    ]
    print_table(["", f"PyTorch {torch_train.output['torch']}", "bipo", "ratio"], rows)
    print(
        f"\n* {torch_train.output['load_s']:.1f} s to load + {steps} x {torch_step_s:.2f} s, the median of "
        f"{args.torch_steps} timed steps: not run to the end."
    )
    print(f"Losses of the {args.torch_steps} steps differ by at most {difference:.1e}.")
    print(
        f"Sweep: {bipo_tokens} tokens by bipo, {torch_sweep.output['tokens']} by PyTorch; "
        f"the same text at {same} of {len(args.magnitudes.split(','))} magnitudes."
    )
    if args.json_file:
        result = {
            "load_average_before": load,
            "threads": args.threads,
            "bipo": {"train": vars(bipo_train), "sweep": vars(bipo_sweep)},
            "torch": {"train": vars(torch_train), "sweep": vars(torch_sweep), "train_s_extrapolated": torch_train_s},
            "largest_loss_difference": difference,
        }
        args.json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def row(name, shown, bipo, torch):
    return [name, shown or f"{torch:.1f}", f"{bipo:.1f}", f"{torch / bipo:.1f}x"]


def compare_training(args):
    run = args.work_dir / "bipo"
    same = ["--model", args.model, "--dataset", args.dataset, "--layer", args.layer, "--limit", args.rows]
    same += ["--epochs", args.epochs, "--batch-size", args.batch_size, "--lr", args.lr, "--warmup-steps", 100]
    same += ["--system", SYSTEM, "--threads", args.threads, "--json"]
    bipo = measured_run(
        [args.bipo, "train", *same, "--device", "cpu", "--dtype", "f32", "--output-dir", run],
        args.work_dir / "bipo-train.log",
    )
    metrics = args.work_dir / "torch-metrics.jsonl"
    replay = ["--replay", run / "metrics.jsonl", "--schedule-epochs", args.epochs, "--max-steps", args.torch_steps]
    torch = measured_run(
        [args.python, SCRIPTS / "reference_bipo.py", *same, *replay, "--metrics", metrics],
        args.work_dir / "torch-train.log",
    )
    pairs = zip(losses(run / "metrics.jsonl"), losses(metrics))
    return bipo, torch, max(abs(ours - theirs) for ours, theirs in pairs)


def losses(path):
    return [json.loads(line)["loss"] for line in path.read_text(encoding="utf-8").splitlines() if line]


def compare_sweep(args):
    same = ["--model", args.model, "--vector", args.work_dir / "bipo" / "steering_vector.safetensors"]
    same += ["--prompt", args.prompt, "--system", SYSTEM, "--max-new-tokens", 64, "--threads", args.threads, "--json"]
    bipo = measured_run(
        [args.bipo, "steer", *same, f"--magnitudes={args.magnitudes}", "--device", "cpu", "--dtype", "f32"],
        args.work_dir / "bipo-steer.log",
    )
    torch = measured_run(
        [args.python, SCRIPTS / "reference_bipo.py", *same, f"--sweep={args.magnitudes}"],
        args.work_dir / "torch-steer.log",
    )
    return bipo, torch


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a .gguf file or a local directory")
    parser.add_argument("--dataset", type=pathlib.Path, required=True, help="CSV of pairs")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True, help="where runs and logs go")
    parser.add_argument("--rows", type=int, default=200, help="first N rows of the dataset")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--layer", type=int, default=14)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch-steps", type=int, default=20, help="steps of PyTorch that are timed")
    parser.add_argument("--prompt", default="Tell me about your plans for the weekend, and why you made them.")
    parser.add_argument("--magnitudes", default="-2,-1,0,1,2")
    parser.add_argument("--json-file", type=pathlib.Path, help="write everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
