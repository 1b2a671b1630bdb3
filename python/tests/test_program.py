"""Training and steering through the program, with a tiny model; errors and Ctrl-C."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from common import HIDDEN, MODEL, TINY, own

import bipo
from bipo._program import arguments

unix = unittest.skipIf(os.name == "nt", "the test is of signals of Unix")


class Program(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def vector(self):
        path = self.folder / "v.safetensors"
        path.write_bytes(own({1: [(-1.0) ** i for i in range(HIDDEN)]}, num_hidden_layers="3"))
        return path

    def test_a_vector_is_trained_and_steers(self):
        flags = {"layer": 1, "limit": 8, "max_steps": 4, "warmup_steps": 0}
        training = bipo.train("cheerful", output_dir=self.folder / "run", **flags, **TINY)
        self.assertEqual((training.steps, training.vector), (4, self.folder / "run" / "steering_vector.safetensors"))
        self.assertTrue(0 < training.vector_norm and 0 < training.final_loss < 1, training)
        self.assertEqual(training.json["method"], "bipo")
        texts = bipo.steer("What is NATO?", training.vector, [-1.5, 0], max_new_tokens=3, **TINY)
        self.assertEqual([(text.prompt, text.magnitude) for text in texts], [("What is NATO?", -1.5), ("What is NATO?", 0)])
        self.assertEqual([len(text.token_ids) for text in texts], [3, 3])
        self.assertEqual(texts[0].json["finish_reason"], texts[0].finish_reason)

    def test_prompts_reach_the_program_as_they_are(self):
        prompts = ["-1\nsecond line", "é🙂", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]
        prompts[2].append({"role": "user", "content": "c"})
        texts = bipo.steer(prompts, self.vector(), 1.0, max_new_tokens=1, **TINY)
        self.assertEqual([text.prompt for text in texts], ["-1\nsecond line", "é🙂", "c"])

    def test_several_vectors_are_added_up(self):
        path = self.vector()
        twice = bipo.steer("hi", [path, path], 10, max_new_tokens=4, **TINY)
        once = bipo.steer("hi", f"{path}:2", 10, max_new_tokens=4, **TINY)
        plain = bipo.steer("hi", path, 0, max_new_tokens=4, **TINY)
        self.assertEqual(twice[0].token_ids, once[0].token_ids)
        self.assertNotEqual(twice[0].token_ids, plain[0].token_ids)

    def test_the_program_chooses_the_magnitudes_that_are_not_given(self):
        path = self.vector()
        added = bipo.steer("hi", path, max_new_tokens=1, **TINY)
        self.assertEqual([text.magnitude for text in added], [-2, 0, 2])
        taken_out = bipo.steer("hi", path, operation="ablate", max_new_tokens=1, **TINY)
        self.assertEqual([text.magnitude for text in taken_out], [0, 1])

    def test_an_error_of_the_program_is_raised_with_its_line_and_code(self):
        with self.assertRaises(bipo.BipoError) as caught:
            bipo.steer("hi", self.folder / "nothing.safetensors", **TINY)
        self.assertIn("nothing.safetensors", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(caught.exception.code, 2)
        with self.assertRaisesRegex(bipo.BipoError, "'--no-such-flag'"):
            bipo.train(no_such_flag=1, **TINY)
        with self.assertRaisesRegex(bipo.BipoError, "expected at least one"):
            bipo.steer([], self.vector(), **TINY)

    def test_a_condition_is_refused_before_anything_runs(self):
        for method in ("condition", ["condition"]):
            with self.assertRaisesRegex(bipo.BipoError, "finds no vector.*`bipo train --method condition`") as caught:
                bipo.train("cheerful", method=method, against="nothing", output_dir=self.folder / "run", **TINY)
            self.assertIsNone(caught.exception.code)

    def test_keywords_become_flags(self):
        self.assertEqual(arguments("max_steps", 4), ["--max-steps=4"])
        self.assertEqual(arguments("lr", 0.00001), ["--lr=1e-05"])
        self.assertEqual(arguments("strict", True) + arguments("strict", False) + arguments("limit", None), ["--strict"])
        self.assertEqual(arguments("magnitudes", [-2, 0.5]), ["--magnitudes=-2,0.5"])
        self.assertEqual(arguments("vector", ["a", Path("b")]), ["--vector=a", "--vector=b"])
        variables = {"enable_thinking": False, "tools": True, "n": 0}
        expected = ["--template-var=enable_thinking=false", "--template-var=tools=true", "--template-var=n=0"]
        self.assertEqual(arguments("template_var", variables), expected)
        self.assertEqual(arguments("columns", {"question": "q", "chosen": "a"}), ["--columns=question=q,chosen=a"])

    def test_the_module_runs_the_program(self):
        command = [sys.executable, "-m", "bipo"]
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout.split()[0]), (0, "bipo"))
        self.assertEqual(subprocess.run([*command, "--no-such-flag"], capture_output=True).returncode, 2)

    def signalled(self, number, before=""):
        """What Python's exit code is, and what was said, where it gets a signal while the program trains. Both have ended then."""
        run = self.folder / f"run{number}"
        code = (
            "import bipo, signal, subprocess, sys\n"
            # A job in the background of a script ignores Ctrl-C, one of nohup SIGHUP, and so would this one.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "hasattr(signal, 'SIGHUP') and signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
            "class Told(subprocess.Popen):\n"
            "    def __init__(self, *args, **more):\n"
            "        super().__init__(*args, **more)\n"
            "        print(self.pid, flush=True)\n"
            "subprocess.Popen = Told\n"
            f"{before}\n"
            f"bipo.train('cheerful', model={str(MODEL)!r}, output_dir={str(run)!r}, offline=True, layer=1, epochs=100000, "
            "device='cpu', quiet=False)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as python:
            self.wait_for_steps(run, python)
            python.send_signal(number)
            try:
                printed, said = python.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                python.kill()  # what leaves the block waits for it
                raise
        with self.assertRaises(ProcessLookupError):
            os.kill(int(printed), 0)
        self.assertIn("interrupted", said)
        self.assertTrue((run / "metrics.jsonl").stat().st_size > 0)
        return python.returncode, said

    def wait_for_steps(self, run, python):
        metrics, limit = run / "metrics.jsonl", time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < limit and python.poll() is None:
            time.sleep(0.05)

    @unix
    def test_ctrl_c_stops_the_program_and_keeps_what_is_done(self):
        self.assertIn("KeyboardInterrupt", self.signalled(signal.SIGINT)[1])

    @unix
    def test_a_signal_that_ends_python_reaches_the_program_first(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.assertEqual(self.signalled(number)[0], -number)

    @unix
    def test_a_handler_of_the_caller_stays_and_its_exception_stops_the_program(self):
        code, said = self.signalled(signal.SIGTERM, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))")
        self.assertEqual(code, 7, said)

    @unix
    def test_handlers_are_as_before_and_other_threads_can_run_the_program(self):
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before, texts, path = [signal.getsignal(number) for number in numbers], [], self.vector()

        def generate():
            texts.extend(bipo.steer("hi", path, 1, max_new_tokens=1, **TINY))

        generate()
        thread = threading.Thread(target=generate)
        thread.start()
        thread.join()
        self.assertEqual(texts[0], texts[1])
        self.assertEqual([signal.getsignal(number) for number in numbers], before)

    @unix
    def test_the_module_gives_its_process_to_the_program(self):
        run = self.folder / "run"
        command = [sys.executable, "-m", "bipo", "train", f"--model={MODEL}", f"--output-dir={run}", "--offline", "--layer=1"]
        command += ["--epochs=100000", "--device=cpu"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as python:
            self.wait_for_steps(run, python)
            python.send_signal(signal.SIGTERM)
            said = python.communicate(timeout=60)[1]
        self.assertEqual(python.returncode, 130, said)
        self.assertIn("interrupted", said)


if __name__ == "__main__":
    unittest.main()
