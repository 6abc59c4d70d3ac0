"""Standard streams whose reader is gone: nothing is raised, and the rest of the program does not notice."""

import os
import subprocess
import sys

import pytest

BEGIN = "import os, sys\nfrom reglab.core.output import prepare_output\nprepare_output()\n"


def run(code, **given):
    """Run code behind ``prepare_output`` in a process; it writes what it found into the file ``found``."""
    return subprocess.run([sys.executable, "-c", BEGIN + code], timeout=60, **given)


PRINTING = """
for _ in range(20_000):
    print('a line of some length')
    print('another', file=sys.stderr)
sys.stdout.flush()
open('found', 'w').write('done')
"""


@pytest.mark.parametrize("target", ["/dev/full", "closed", "hung up"])
def test_a_program_ends_as_it_would_whoever_reads(target, tmp_path):
    if target == "closed":  # a reader that went away at once
        source, sink = os.pipe()
        os.close(source)
    elif target == "hung up":  # a terminal whose other end is gone
        source, sink = os.openpty()
        os.close(source)
    else:
        sink = os.open(target, os.O_WRONLY)
    ended = run(PRINTING, cwd=tmp_path, stdout=sink, stderr=sink)
    os.close(sink)
    assert ended.returncode == 0
    assert (tmp_path / "found").read_text() == "done"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_gives_its_number_to_no_other_file(closed, tmp_path):
    """Else messages of C libraries would be written into whatever is opened next: a store, say."""
    code = tmp_path / "code.py"
    code.write_text(f"{BEGIN}\nnumber = os.open('store', os.O_CREAT | os.O_WRONLY)\n"
                    "print('out'); print('error', file=sys.stderr); os.write(2, b'C'); sys.stdin.read()\n"
                    "open('found', 'w').write(str(number))\n")  # fmt: skip
    ended = subprocess.run(["sh", "-c", f"exec {sys.executable} code.py {closed}"], cwd=tmp_path, timeout=60,
                           stdin=subprocess.DEVNULL)  # fmt: skip
    assert ended.returncode == 0
    assert int((tmp_path / "found").read_text()) > 2
    assert (tmp_path / "store").read_bytes() == b""


@pytest.mark.parametrize("act", ["sys.stdout.close(); sys.stderr.close()", "os.close(1); os.close(2)",
                                 "sys.stdout = sys.stderr = None"])  # fmt: skip
def test_a_model_that_closes_the_streams_costs_only_the_output(act, tmp_path):
    ended = run(f"out = sys.stdout\n{act}\nprint('a'); out.write('b'); out.flush(); out.isatty()\n"
                "open('found', 'w').write('done')\n", cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 0
    assert (tmp_path / "found").read_text() == "done"


def test_what_can_be_written_is_written_once_however_often_it_is_prepared(tmp_path):
    ended = run("prepare_output()\nprint('out')\nprint('error', file=sys.stderr)\n", capture_output=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"out\n", b"error\n")


def test_a_disk_that_has_room_again_gets_the_rest():
    from reglab.core.output import dropping

    class Full:
        full, lines = True, ""

        def write(self, text):
            if self.full:
                raise OSError(28, "No space left on device")
            self.lines += text

    disk = Full()
    stream = dropping(disk)
    assert stream.write("lost\n") == 5
    disk.full = False
    stream.write("kept\n")
    assert disk.lines == "kept\n"
