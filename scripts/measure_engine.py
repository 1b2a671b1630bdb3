"""Measure the engine that decodes: a sweep of 50 prompts at five magnitudes, 16 clients of a server, and the first token of a short
prompt while 15 other texts are under way. Called by measure-engine.sh; needs only the standard library.

    python3 measure_engine.py VECTOR PAIRS.csv BIPO [BIPO...]
"""

import atexit
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import median_runs, print_table, warn_if_busy

TOKENS = 64
MAGNITUDES = "-0.5,-0.25,0,0.25,0.5"
PROMPTS = 50
CLIENTS = 16
TURNS = int(os.environ.get("TURNS", "3"))


def questions(path):
    with open(path, newline="", encoding="utf-8") as file:
        found = [row["question"] for row in csv.DictReader(file)]
    return list(dict.fromkeys(found))[:PROMPTS]


def sweep(bipos, vector, prompts, work):
    """Each program's run of median time, and whether all texts are the same."""
    file = work / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    flags = ["--vector", vector, "--prompts", file, f"--magnitudes={MAGNITUDES}", "--max-new-tokens", TOKENS, "--quiet", "--json"]
    commands = {bipo: ([bipo, "steer", *flags], work / "steer.log") for bipo in bipos}
    runs = median_runs(commands, TURNS)
    texts = {bipo: [result["text"] for result in run.output["results"]] for bipo, run in runs.items()}
    first = texts[bipos[0]]
    alike = {bipo: sum(a == b for a, b in zip(own, first)) for bipo, own in texts.items()}
    return runs, alike, len(first)


class Server:
    def __init__(self, bipo, vector):
        command = [bipo, "serve", "--vector", f"v={vector}", "--port", "0", "--slots", str(CLIENTS), "--json", "--quiet"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the server did not start: its reason is above")
        self.url = json.loads(line)["url"].rstrip("/")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, prompt, magnitude, tokens=TOKENS, on_token=None):
        """The text of an answer; `on_token` is called at each token of a streamed one, until it returns true."""
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "steering": f"v:{magnitude}",
            "stream": on_token is not None,
        }
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            if on_token is None:
                return json.load(answer)["choices"][0]["message"]["content"]
            for line in answer:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content") and on_token():
                    break


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [call.result() for call in [pool.submit(call) for call in calls]]


def clients(server, prompts):
    """Seconds one after another and together, by turn, and whether the texts are the same."""
    calls = [lambda at=at: server.ask(prompts[at], -0.5 + at / CLIENTS) for at in range(CLIENTS)]
    server.ask(prompts[CLIENTS], 0)
    turns, same = [], True
    for _ in range(TURNS):
        begun = time.perf_counter()
        alone = [call() for call in calls]
        between = time.perf_counter()
        same &= together(calls) == alone
        turns.append((between - begun, time.perf_counter() - between))
    return turns, same


def first_tokens(server, prompts):
    """Seconds to the first token of short prompts, alone and while all places but one are taken by texts that get tokens."""

    def first(number):
        found = []
        begun = time.perf_counter()
        server.ask(f"What is {number} and {number}?", 0.5, 8, lambda: found.append(time.perf_counter() - begun) or True)
        return found[0] if found else sys.exit("an answer without a token")

    tokens, stop = [0] * (CLIENTS - 1), threading.Event()

    def other(at):
        def on_token():
            tokens[at] += 1
            return stop.is_set()

        while not stop.is_set():
            server.ask(prompts[at], 0.1 * (at % 5), 1000, on_token)

    first(0)
    alone = [first(number) for number in range(100, 115)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        others = [pool.submit(other, at) for at in range(CLIENTS - 1)]
        try:
            while min(tokens) == 0 and not any(other.done() for other in others):
                time.sleep(0.05)
            among = [first(number) for number in range(200, 215)]
        finally:
            stop.set()
        for other in others:
            other.result()
    return statistics.median(alone), statistics.median(among)


def main():
    vector, dataset, bipos = sys.argv[1], sys.argv[2], sys.argv[3:]
    warn_if_busy()
    prompts = questions(dataset)
    with tempfile.TemporaryDirectory() as work:
        runs, alike, count = sweep(bipos, vector, prompts, Path(work))
    slowest = max(run.wall_s for run in runs.values())
    print(f"{len(prompts)} prompts, magnitudes {MAGNITUDES}, {TOKENS} tokens; median of {TURNS} turns")
    print_table(
        ["program", "seconds", "all turns", "peak, MiB", "times as fast as the slowest", "texts as those of the first"],
        [
            [
                bipo,
                f"{run.wall_s:.1f}",
                " ".join(f"{wall:.1f}" for wall in run.walls_s),
                f"{run.peak_mib:.0f}",
                f"{slowest / run.wall_s:.2f}",
                f"{alike[bipo]} of {count}",
            ]
            for bipo, run in runs.items()
        ],
    )
    with Server(bipos[0], vector) as server:
        turns, same = clients(server, prompts)
        alone, among = first_tokens(server, prompts)
    print(f"\n{CLIENTS} clients of {bipos[0]} serve, {TOKENS} tokens each")
    print_table(
        ["turn", "one after another, s", "together, s", "ratio"],
        [[turn + 1, f"{one:.2f}", f"{all_:.2f}", f"{one / all_:.2f}"] for turn, (one, all_) in enumerate(turns)],
    )
    if not same:
        sys.exit("texts together are other texts than one after another")
    print(
        f"\nfirst token of a short prompt, median of 15: alone {1000 * alone:.0f} ms, while {CLIENTS - 1} texts get tokens "
        f"{1000 * among:.0f} ms, {among / alone:.2f} times"
    )


if __name__ == "__main__":
    main()
