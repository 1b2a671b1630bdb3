"""Run a command and measure it; print results as a table. Shared by the two comparisons; standard library only."""

import json
import os
import signal
import subprocess
import sys
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
        self.started = time.perf_counter()
        self.paused_s = 0.0

    def wait_for(self, condition):
        """Until `condition()` holds."""
        while not condition():
            if self.process.poll() is not None:
                self.fail()
            time.sleep(0.005)

    def while_paused(self, action):
        """The command stands still while `action()` runs."""
        begun = time.perf_counter()
        self.process.send_signal(signal.SIGSTOP)
        action()
        self.process.send_signal(signal.SIGCONT)
        self.paused_s += time.perf_counter() - begun

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self):
        """What it printed, and its time without the pauses."""
        output = self.process.stdout.read()
        _, status, usage = os.wait4(self.process.pid, 0)
        wall_s = time.perf_counter() - self.started - self.paused_s
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            self.fail()
        unit = 1024 * 1024 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
        return Measured(json.loads(output), wall_s, usage.ru_maxrss / unit)

    def fail(self):
        tail = open(self.log, encoding="utf-8", errors="replace").read()[-2000:]
        sys.exit(f"{tail}\n{self.command[0]} failed with exit code {self.process.returncode}; its messages are in {self.log}")


def measured_run(command, log):
    """Runs a command to its end."""
    return Running(command, log).finish()


def median_run(command, log, repeats):
    """The run of median wall time of several, with all times as `walls_s` and the highest peak."""
    runs = sorted((measured_run(command, log) for _ in range(repeats)), key=lambda run: run.wall_s)
    median = runs[len(runs) // 2]
    median.walls_s = [run.wall_s for run in runs]
    median.peak_mib = max(run.peak_mib for run in runs)
    return median


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
