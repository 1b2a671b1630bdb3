"""`python -m bipo` runs the program bipo."""

import subprocess
import sys

from ._errors import BipoError
from ._program import program


def main() -> int:
    try:
        command = [str(program()), *sys.argv[1:]]
    except BipoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    child = subprocess.Popen(command)
    while True:
        try:
            code = child.wait()
            return code if code >= 0 else 128 - code  # ended by a signal, as a shell tells it
        except KeyboardInterrupt:
            pass  # the program has it too, and ends in its own way


if __name__ == "__main__":
    sys.exit(main())
