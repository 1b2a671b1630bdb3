"""Run a command and measure it, and print results as a table. The comparison scripts share it. Needs only the standard library."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time


class Measured:
    """What a command printed as JSON, its wall time in seconds and its peak resident memory in MiB."""

    def __init__(self, output, wall_s, peak_mib):
        self.output, self.wall_s, self.peak_mib = output, wall_s, peak_mib


class Running:
    """A command that prints one JSON value on standard output, which can be paused; its standard error goes to the file `log`."""

    def __init__(self, command, log):
        self.command, self.log = [str(part) for part in command], log
        print("$", " ".join(self.command), file=sys.stderr)
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self.started, self.paused_s, self.ended = time.perf_counter(), 0.0, None
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        atexit.register(self.kill)

    def watch(self):
        self.output = self.process.stdout.read()
        _, status, self.usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.ended = time.perf_counter()

    def signal(self, number):
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)

    def wait_for(self, condition):
        """Waits until `condition()` holds."""
        while not condition():
            if self.ended is not None and not condition():
                self.fail()
            time.sleep(0.005)

    def while_paused(self, action):
        """Pauses the command while `action()` runs."""
        running, begun = self.ended is None, time.perf_counter()
        self.signal(signal.SIGSTOP)
        action()
        self.signal(signal.SIGCONT)
        self.paused_s += time.perf_counter() - begun if running else 0.0

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self):
        """What the command printed, and its time without the pauses."""
        self.watcher.join()
        if self.process.returncode != 0:
            self.fail()
        unit = 1024 * 1024 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS and in KiB elsewhere
        return Measured(json.loads(self.output), self.ended - self.started - self.paused_s, self.usage.ru_maxrss / unit)

    def fail(self):
        tail = open(self.log, encoding="utf-8", errors="replace").read()[-2000:]
        sys.exit(f"{tail}\n{self.command[0]} failed with exit code {self.process.returncode}; its messages are in {self.log}")


def measured_run(command, log):
    """Runs a command to its end."""
    return Running(command, log).finish()


def median_run(command, log, repeats):
    """The run with the median wall time of several runs, with all times as `walls_s` and the highest peak."""
    return median_runs({"": (command, log)}, repeats)[""]


def median_runs(commands, repeats):
    """`median_run` for each of {name: (command, log)}. The commands take turns, so that other work on the machine disturbs all alike."""
    runs = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (command, log) in commands.items():
            runs[name].append(measured_run(command, log))
    return {name: median(own) for name, own in runs.items()}


def median(runs):
    runs = sorted(runs, key=lambda run: run.wall_s)
    run = runs[len(runs) // 2]
    run.walls_s = [run.wall_s for run in runs]
    run.peak_mib = max(run.peak_mib for run in runs)
    return run


def print_table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|")


def warn_if_busy():
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: load average is {load:.1f}: other programs are running, the times will not mean much", file=sys.stderr)
    return load
