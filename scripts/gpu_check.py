"""Run `bipo check`, `bipo bench` and reference_bipo.py, each with a time limit of its own, for gpu-check.sh. If a part fails, it
is reported and the other parts still run. Needs only Python's standard library."""

import argparse
import importlib.util
import json
import os
import pathlib
import site
import subprocess
import sys
import time

from measure import print_table

SCRIPTS = pathlib.Path(__file__).resolve().parent
# The limits add up to 465 s for all shapes, so the whole script stays under 8 minutes even if every part uses its limit up.
LIMITS_S = {"check": 75, "model": 60, "bench": 75, "torch": 90}
LIBRARIES = ["libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"]


def main():
    args = parse_arguments()
    os.environ["LD_LIBRARY_PATH"] = library_path()
    started = time.perf_counter()
    parts = {}

    def part(name, kind, command):
        print(f"gpu-check: {name}", file=sys.stderr)
        parts[name] = run(command, args.limit_s or LIMITS_S[kind])
        if parts[name]["status"] != "ok":
            print(f"gpu-check: {name} {parts[name]['status']}: {parts[name]['message']}", file=sys.stderr)

    here = ["--device", args.device]
    part("check", "check", [args.bipo, "check", *here, "--json"])
    if args.model:
        golden = ["--golden", args.golden] if args.golden else []
        part("check of the model", "model", [args.bipo, "check", *here, "--model", args.model, "--offline", *golden, "--json"])
    lengths = ["--batch-size", "4", "--prompt-tokens", args.prompt_tokens, "--response-tokens", args.response_tokens]
    seconds = ["--seconds", args.seconds]
    has_torch = not args.no_torch and all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors", "numpy"))
    for shape in args.shapes:
        common = ["--shape", shape, *here, "--dtype", args.dtype, *lengths, *seconds, "--json"]
        part(f"bench {shape}", "bench", [args.bipo, "bench", *common, "--new-tokens", args.new_tokens])
        if has_torch:
            reference = [sys.executable, SCRIPTS / "reference_bipo.py", *common, "--max-new-tokens", args.new_tokens]
            part(f"PyTorch {shape}", "torch", reference)
        else:
            parts[f"PyTorch {shape}"] = {"status": "left out", "message": "not asked for" if args.no_torch else "torch or transformers is not installed"}

    rows = [row for shape in args.shapes for row in compare(shape, parts)]
    report = {
        "schema_version": 1,
        "device": next((part["result"]["device"] for part in parts.values() if "result" in part), None),
        "passed": all(part["status"] == "ok" for name, part in parts.items() if name.startswith("check")),
        "seconds": round(time.perf_counter() - started, 1),
        "comparison": rows,
        "parts": parts,
    }
    # The file is written before anything is printed, because printed output can get lost.
    pathlib.Path(args.output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{report['device']}, {args.dtype}: {report['seconds']} s in all, {args.output}\n")
    print_table(["part", "outcome", "seconds"], [outcome(name, part) for name, part in parts.items()])
    print()
    head = ["shape", "measured", "bipo", "PyTorch", "ratio", "aim"]
    print_table(head, [[row["shape"], row["measured"], *map(number, (row["bipo"], row["torch"], row["ratio"])), row["aim"]] for row in rows])
    sys.exit(0 if report["passed"] else 1)


def run(command, limit_s):
    """The JSON that a command printed, or the reason why there is none."""
    started = time.perf_counter()
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "timed out", "seconds": limit_s, "message": f"not done after {limit_s} s"}
    except OSError as error:
        return {"status": "failed", "seconds": 0.0, "message": f"{command[0]}: {error.strerror}"}
    seconds = round(time.perf_counter() - started, 1)
    told = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    try:
        result = json.loads(done.stdout)
    except ValueError:
        return {"status": "failed", "seconds": seconds, "message": told[-1]}
    if done.returncode != 0:
        return {"status": "failed", "seconds": seconds, "message": told[-1], "result": result}
    return {"status": "ok", "seconds": seconds, "result": result}


def compare(shape, parts):
    """The table rows of one shape: what bipo reached, what PyTorch reached, and the aim."""
    ours, theirs = (parts[f"{name} {shape}"].get("result") for name in ("bench", "PyTorch"))
    if ours is None:
        return []
    training = ours["training"]
    sweeps = {sweep["magnitudes"]: sweep["tokens_per_s"] for sweep in ours["sweeps"]}

    def row(measured, bipo, torch, ratio, aim):
        return {"shape": shape, "measured": measured, "bipo": bipo, "torch": torch, "ratio": ratio, "aim": aim}

    def of_torch(key):
        return None if theirs is None else theirs[key]

    def ratio(bipo, torch):
        return None if torch is None else bipo / torch

    steps, torch_steps, torch_sweep = training["steps_per_s"], of_torch("steps_per_s"), of_torch("sweep_tokens_per_s")
    peak, torch_peak = training["peak_memory_bytes"], of_torch("training_peak_memory_bytes")
    rows = [
        row("load, s", ours["load_s"], of_torch("load_s"), None, ""),
        row("training, steps/s", steps, torch_steps, ratio(steps, torch_steps), "ratio 3"),
        row("training, TFLOP/s of useful work", training["flops_per_s"] / 1e12, None, None, ""),
        row("best matrix product, TFLOP/s", ours["matmul_flops_per_s"] / 1e12, None, None, ""),
        row("training, share of it", training["share_of_matmul"], None, None, "0.5"),
        row("training, peak memory, GB", gigabytes(peak), gigabytes(torch_peak), None, "24"),
        row("training, memory counted before, GB", gigabytes(ours["estimated_memory_bytes"]), None, None, ""),
    ]
    for magnitudes, tokens_per_s in sweeps.items():
        torch, aim = (torch_sweep, "ratio 3") if magnitudes == 5 else (None, "")
        rows.append(row(f"sweep of {magnitudes}, tokens/s", tokens_per_s, torch, ratio(tokens_per_s, torch), aim))
    return rows


def gigabytes(count):
    return None if count is None else count / 1e9


def number(value):
    return "" if value is None else f"{value:.4g}"


def outcome(name, part):
    result = part.get("result", {})
    told = part.get("message", "ok")
    if "checks" in result:
        failed = [f"{check['model']} {check['dtype']} {check['what']}" for check in result["checks"] if not check["passed"]]
        told = f"{len(result['checks'])} checks passed" if not failed else "failed: " + "; ".join(failed[:3])
    return [name, told[:100], number(part.get("seconds"))]


def library_path():
    """LD_LIBRARY_PATH, followed by the folders where pip put CUDA's libraries, which are often the only ones on a machine."""
    roots = {pathlib.Path(path) for path in [*site.getsitepackages(), site.getusersitepackages(), *sys.path] if path}
    found = {str(file.parent) for root in roots for name in LIBRARIES for file in root.glob(f"nvidia/*/lib/{name}")}
    return os.pathsep.join([path for path in [os.environ.get("LD_LIBRARY_PATH")] if path] + sorted(found))


def parse_arguments():
    parser = argparse.ArgumentParser(prog="gpu-check.sh", description="Check and measure bipo on a machine with a GPU.")
    parser.add_argument("bipo", type=pathlib.Path, help="the program, built with --features cuda")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16", choices=["f32", "bf16", "f16"])
    parser.add_argument("--shapes", default="llama-2-7b,mistral-7b", type=lambda text: text.split(","))
    parser.add_argument("--model", help="also repeat 48 training steps of this model, smollm2's GGUF file")
    parser.add_argument("--golden", help="with --model, compare with the authors' recorded run in this folder instead of with the CPU")
    parser.add_argument("--prompt-tokens", default=50, type=int)
    parser.add_argument("--response-tokens", default=50, type=int)
    parser.add_argument("--new-tokens", default=64, type=int)
    parser.add_argument("--seconds", default=5.0, type=float, help="repeat products and steps for this long")
    parser.add_argument("--no-torch", action="store_true", help="measure bipo alone")
    parser.add_argument("--limit-s", type=float, help="give every part this time limit instead of its own")
    parser.add_argument("--output", default="gpu-check.json", help="write the results to this JSON file")
    args = parser.parse_args()
    if not args.bipo.is_file():
        sys.exit(f"gpu-check: {args.bipo} does not exist: cargo build --release --features cuda makes target/release/bipo")
    return args


if __name__ == "__main__":
    main()
