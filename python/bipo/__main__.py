"""`python -m bipo` runs the program bipo."""

import os
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
    if sys.platform != "win32":
        os.execv(command[0], command)  # the program takes this process over, and so gets every signal itself
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            pass  # the program has it too, and ends in its own way


if __name__ == "__main__":
    sys.exit(main())
