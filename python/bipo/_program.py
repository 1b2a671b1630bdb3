"""Runs the program bipo and reads its JSON. `bipo COMMAND --help` says what a command can do; its flags are keywords here."""

from __future__ import annotations

import json
import numbers
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from ._errors import BipoError
from ._places import Message

One = Union[int, float, str, "os.PathLike[str]"]
Flag = Union[None, bool, One, Sequence[One], Mapping[str, One]]
FilePath = Union[str, "os.PathLike[str]"]

# Flags that are repeated for several values; the others take a list joined by commas.
REPEATED = {"vector", "template_var"}
# How long a program that was interrupted may take to keep what is done.
PATIENCE_S = 60.0
# A group of its own, so that Ctrl-C in a terminal reaches the program once: from here.
OWN_GROUP: Dict[str, Any]
# Signals that end Python by default, and that are passed on to the program.
ENDING: List[signal.Signals]
if sys.platform == "win32":
    OWN_GROUP, INTERRUPT = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}, signal.CTRL_BREAK_EVENT
    ENDING = []
else:
    OWN_GROUP, INTERRUPT = {"start_new_session": True}, signal.SIGINT
    ENDING = [signal.SIGTERM, signal.SIGHUP]


@dataclass(frozen=True)
class Training:
    """What `train` learned."""

    vector: Path
    """The file of the vector."""
    steps: int
    final_loss: Optional[float]
    final_margin: Optional[float]
    vector_norm: float
    json: Mapping[str, Any]
    """Everything that `bipo train --json` prints."""


@dataclass(frozen=True)
class Text:
    """One text that `steer` generated."""

    prompt: str
    magnitude: float
    text: str
    token_ids: List[int]
    finish_reason: str
    json: Mapping[str, Any]
    """Everything that `bipo steer --json` prints of this text."""


def train(
    dataset: FilePath = "cheerful",
    *,
    model: FilePath = "smollm2",
    output_dir: FilePath = "bipo_output",
    overwrite: bool = False,
    quiet: bool = True,
    **flags: Flag,
) -> Training:
    """Learns a steering vector with `bipo train`.

    `dataset` is a file of pairs, the name of a bundled or published set, or hf:owner/name. Other flags of `bipo train` are
    keywords, with `_` in place of `-`: `max_steps=100, eval_dataset="cheerful-heldout"`. `quiet=False` shows the progress on
    standard error.
    """
    flags = {"dataset": dataset, "model": model, "output_dir": output_dir, "overwrite": overwrite, **flags}
    if "--method=condition" in words_of(flags):
        raise BipoError("method 'condition' finds no vector, but when to steer: run `bipo train --method condition` in a shell")
    result = run("train", flags, quiet=quiet)
    return Training(
        vector=Path(result["vector"]),
        steps=result["steps"],
        final_loss=result.get("final_loss"),
        final_margin=result.get("final_margin"),
        vector_norm=result["vector_norm"],
        json=result,
    )


def steer(
    prompts: Union[str, Sequence[Union[str, Sequence[Message]]]],
    vector: Union[FilePath, Sequence[FilePath]],
    magnitudes: Union[None, str, float, Sequence[float]] = None,
    *,
    model: FilePath = "smollm2",
    quiet: bool = True,
    **flags: Flag,
) -> List[Text]:
    """Generates a text for each prompt and magnitude with `bipo steer`.

    A prompt is a question, or the messages of a conversation: `[{"role": "user", "content": "…"}, …]`. `vector` is a file, or
    several that are added up; `FILE:SCALE` scales one. `magnitudes` are numbers, a range such as "-2..2:0.5", or "auto"; without them
    the program chooses: -2, 0 and 2, or 0 and 1 where the vector is taken out. Other flags of `bipo steer` are keywords:
    `max_new_tokens=64, temperature=0.7`.
    """
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    if not several:
        raise BipoError("there is no prompt: expected at least one")
    conversations = [[{"role": "user", "content": one}] if isinstance(one, str) else list(one) for one in several]
    lines = "".join(json.dumps({"messages": messages}) + "\n" for messages in conversations)
    flags = {"vector": vector, "magnitudes": magnitudes, "model": model, "prompts": "-", **flags}
    results = run("steer", flags, quiet=quiet, stdin=lines)["results"]
    keys = ("prompt", "magnitude", "text", "token_ids", "finish_reason")
    return [Text(**{key: result[key] for key in keys}, json=result) for result in results]


def program() -> Path:
    """The program bipo: that of this package, else the one on the path."""
    name = "bipo.exe" if os.name == "nt" else "bipo"
    folder = Path(__file__).resolve().parent
    places = [
        Path(sysconfig.get_path("scripts")) / name,
        Path(sysconfig.get_path("scripts", scheme=f"{os.name}_user")) / name,
        folder.parent / "bin" / name,  # pip install --target
    ]
    found = next((place for place in places if place.is_file()), None) or shutil.which("bipo")
    if found is None:
        raise BipoError(
            "the program bipo is not found beside this package or on the path: install bipo's wheel, or put it on PATH"
        )
    return Path(found)


def run(command: str, flags: Mapping[str, Flag], quiet: bool = True, stdin: str = "") -> Dict[str, Any]:
    """The JSON that a command of the program prints."""
    words = [str(program()), command, "--json", *(["--quiet"] if quiet else []), *words_of(flags)]
    said: List[str] = []
    with ending_together() as reach:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **OWN_GROUP)
        reach(child)
        listener = threading.Thread(target=listen, args=(child.stderr, said, not quiet), daemon=True)
        listener.start()
        try:
            printed = exchange(child, stdin.encode())
            listener.join()
        except BaseException:
            stop(child)
            raise
        finally:
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None and child.poll() is not None:
                    close(stream)
    if child.returncode != 0:
        raise failure(command, child.returncode, said)
    try:
        result: Dict[str, Any] = json.loads(printed)
        return result
    except ValueError:
        raise BipoError(f"bipo {command} did not print JSON: is {program()} another program?") from None


@contextmanager
def ending_together() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Passes signals that would end Python at once on to the program, which keeps what is done, and ends Python after it.

    A signal that Python has a handler for is left to it, and Python allows handlers in the main thread alone.
    """
    got: List[int] = []
    children: List[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: Any) -> None:
        got.append(number)
        for child in children:
            child.send_signal(number)

    def reach(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in got:  # it came while the program was started
            child.send_signal(number)

    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in ENDING if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, pass_on)
    try:
        yield reach
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        if got:
            signal.raise_signal(got[0])


def exchange(child: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Writes to the program, which reads everything before it prints, and reads what it prints until its end."""
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(text)
        child.stdin.close()
    except OSError:
        pass  # it ended before it read: its error says why
    printed = child.stdout.read()
    child.wait()
    return printed


def words_of(flags: Mapping[str, Flag]) -> List[str]:
    """Keywords as the program's arguments."""
    return [word for name, value in flags.items() for word in arguments(name, value)]


def arguments(name: str, value: Flag) -> List[str]:
    """A keyword as the program's arguments. `--flag=value` also takes a value that begins with a dash."""
    flag = "--" + name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, (str, int, float, numbers.Real, os.PathLike)):
        return [f"{flag}={written(value)}"]
    if isinstance(value, Mapping):
        value = [f"{key}={written(one)}" for key, one in value.items()]
    if name in REPEATED:
        return [f"{flag}={written(one)}" for one in value]
    return [f"{flag}={','.join(map(written, value))}"]


def written(value: One) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, numbers.Integral) else repr(float(value))


def stop(child: subprocess.Popen[bytes]) -> None:
    """Lets the program keep what is done, as its first Ctrl-C does, and ends it if it takes long or is asked again."""
    try:
        if child.poll() is None:
            if child.stdout is not None:
                close(child.stdout)  # so that it does not wait for somebody to read what it prints
            child.send_signal(INTERRUPT)
            child.wait(PATIENCE_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired, OSError):
        pass
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def listen(stream: Optional[IO[bytes]], said: List[str], is_shown: bool) -> None:
    for line in stream or []:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        said.append(text)
        if is_shown:
            print(text, file=sys.stderr, flush=True)


def close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:
        pass


def failure(command: str, code: int, said: Sequence[str]) -> BipoError:
    errors = [line[len("error: ") :] for line in said if line.startswith("error: ")]
    others = [line for line in said if line.strip()] or [f"bipo {command} failed without a word"]
    line = errors[-1] if errors else others[-1]
    return BipoError(f"{line} (ended by signal {-code})" if code < 0 else line, code)
