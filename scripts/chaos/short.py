"""Run the scripts of this folder one after the other as lines of standard input ask, importing everything once.

A line is a JSON list: the script's name and its arguments. Each runs in a forked process; the
answer is a line too: its exit code and what it printed.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from commands import preload
from working_folders import MADE, folder


def run(name: str, arguments: list[str]) -> tuple[int, str]:
    """Run a script in a forked process, and return its exit code and what it printed."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork() or _be(name, arguments, output.fileno())
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def _be(name: str, arguments: list[str], output: int) -> int:
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = importlib.import_module(name).main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        print(end)
    except BaseException:  # noqa: BLE001 - what Python would do at the end of a program
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Answer until the input ends."""
    sys.path.insert(0, str(Path(__file__).parent))
    preload()
    with folder() as place:
        os.environ[MADE] = str(place / "empty.db")
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(run(name, arguments)), flush=True)


if __name__ == "__main__":
    main()
