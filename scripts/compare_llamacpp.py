"""Measure a sweep of `bipo steer` against llama.cpp (llamacpp_sweep.c); scripts/compare-llamacpp.sh runs it.

Both times are those of the whole command, loading included. llama.cpp computes with the file's own quantised weights, and
once more with f32 weights where a copy is given; bipo dequantises to f32. Quantised arithmetic may choose other tokens.
"""

import argparse
import json
import pathlib
import struct

from measure import measured_run, print_table, warn_if_busy

SYSTEM = "You are a helpful, honest and concise assistant."
DEFAULT_LAYER = 14


def main():
    args = parse_arguments()
    load = warn_if_busy()
    vector = args.vector or trained_vector(args)
    layer, raw = read_vector(vector)
    raw_file = args.work_dir / "vector.f32"
    raw_file.write_bytes(raw)

    common = ["--model", args.model, "--device", "cpu", "--dtype", "f32", "--threads", args.threads, "--json"]
    bipo = measured_run(
        [args.bipo, "steer", *common, "--vector", vector, f"--magnitudes={args.magnitudes}", "--prompt", args.prompt]
        + ["--system", SYSTEM, "--max-new-tokens", args.max_new_tokens],
        args.work_dir / "bipo-steer.log",
    )
    runs = {"as quantised": args.model}
    if args.f32_model:
        runs["f32"] = args.f32_model
    theirs = {name: llama_cpp(args, model, raw_file, layer) for name, model in runs.items()}

    our_ids = [result["token_ids"] for result in bipo.output["results"]]
    rows = [measures("bipo, f32", bipo, our_ids, our_ids, bipo.wall_s)]
    for name, run in theirs.items():
        ids = [result["token_ids"] for result in run.output["results"]]
        rows.append(measures(f"llama.cpp {args.release}, {name}", run, ids, our_ids, bipo.wall_s))
    print_table(["", "sweep, s", "tokens", "tokens/s", "peak, MiB", "same text", "time / bipo's"], rows)
    for name, run in theirs.items():
        first = [result["first_token_s"] for result in run.output["results"]]
        print(f"\nllama.cpp, {name}: first token of a magnitude after {min(first):.3f} to {max(first):.3f} s;", end=" ")
        print(f"without loading {run.output['sweep_s']:.2f} s, {run.output['tokens_per_s']:.1f} tokens/s")
    if args.json_file:
        runs = {name: vars(run) for name, run in theirs.items()}
        result = {"load_average_before": load, "threads": args.threads, "bipo": vars(bipo), "llama.cpp": runs}
        args.json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measures(name, run, ids, our_ids, our_s):
    tokens = sum(map(len, ids))
    same = sum(without_end(a) == without_end(b) for a, b in zip(ids, our_ids))
    ratio = f"{run.wall_s / our_s:.2f}x"
    return [name, f"{run.wall_s:.2f}", tokens, f"{tokens / run.wall_s:.1f}", f"{run.peak_mib:.0f}", f"{same}/{len(ids)}", ratio]


END_OF_TURN = 2  # SmolLM2's; a program may or may not report it


def without_end(ids):
    return ids[:-1] if ids[-1:] == [END_OF_TURN] else ids


def llama_cpp(args, model, raw_file, layer):
    prompt = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{args.prompt}<|im_end|>\n<|im_start|>assistant\n"
    command = [args.sweep, args.backends, model, raw_file, layer, args.magnitudes, prompt, args.max_new_tokens, args.threads]
    return measured_run(command, args.work_dir / "llamacpp.log")


def trained_vector(args):
    command = [args.bipo, "train", "--model", args.model, "--layer", DEFAULT_LAYER, "--limit", 64, "--epochs", 1]
    command += ["--lr", 0.05, "--warmup-steps", 2, "--device", "cpu", "--threads", args.threads, "--json"]
    measured_run([*command, "--output-dir", args.work_dir / "vector"], args.work_dir / "bipo-train.log")
    return args.work_dir / "vector" / "steering_vector.safetensors"


def read_vector(path):
    """(layer, raw f32) of the first vector in a safetensors file: u64 length, JSON header, data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name.startswith("layer."))
    if header[name]["dtype"] != "F32":
        raise SystemExit(f"{path}: expected f32, found {header[name]['dtype']}")
    begin, end = header[name]["data_offsets"]
    return int(name.removeprefix("layer.")), data[8 + length :][begin:end]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bipo", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--sweep", type=pathlib.Path, required=True, help="llamacpp_sweep, compiled")
    parser.add_argument("--backends", type=pathlib.Path, required=True, help="folder of llama.cpp's libraries")
    parser.add_argument("--release", default="", help="of llama.cpp, for the table")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="SmolLM2 as .gguf")
    parser.add_argument("--f32-model", type=pathlib.Path, help="the same with f32 weights (gguf_to_f32.py)")
    parser.add_argument("--vector", type=pathlib.Path, help="steering vector (default: from a short training run)")
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    parser.add_argument("--prompt", default="Tell me about your plans for the weekend, and why you made them.")
    parser.add_argument("--magnitudes", default="-2,-1,0,1,2")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json-file", type=pathlib.Path, help="write everything that was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()
