"""``reglab test``: loss and scores of a run's model on its test part, or on other rows."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reglab.cli.predict import opened
from reglab.cli.questions import asker
from reglab.cli.report_dashboard import given_uri, reading_parser
from reglab.cli.settings import READING, settings
from reglab.core.errors import UserError
from reglab.core.terminal import inline

_KEYS = ("data.path", "data.targets", "weights", "trust", *(f"data.{key}" for key in READING))


def test(arguments: Sequence[str]) -> int:
    """Run ``reglab test``; return 0.

    Raises:
        UserError: For a run, a file or a value that cannot be used.
    """
    parser = reading_parser("test", "Measure the model of a run on its test part, or on the rows of a file.")
    parser.add_argument("run", help="the folder, id or name of a run; or of a sweep: the setting that it chose")
    parser.add_argument("settings", nargs="*", default=[], help="data.path=other.csv data.targets=y.npy")
    given = parser.parse_intermixed_args(list(arguments))
    chosen = settings(given.settings, _KEYS)
    if "data.path" in chosen:
        from reglab.inference.testing import other_rows

        model = opened(given.run, given.uri, chosen)
        targets = Path(chosen["data.targets"]).expanduser() if "data.targets" in chosen else None
        metrics, told = other_rows(model.predictor, model.config, Path(chosen["data.path"]).expanduser(), targets)
    else:
        metrics, told = _test_part(given.run, given.uri, chosen)
    for line in told:
        print(inline(line), file=sys.stderr)
    print("\n".join(_lines(metrics)))
    return 0


def _test_part(run: str, uri: str | None, chosen: Mapping[str, str]) -> tuple[dict[str, float], list[str]]:
    if others := [key for key in chosen if key != "trust"]:
        raise UserError(f"{others[0]} is of use with data.path=FILE alone: leave it out, or give a file")
    from reglab.cli.import_path import trust_given
    from reglab.inference.testing import test_part_again
    from reglab.tracking.store_gate import asking

    trust_given([f"trust={chosen['trust']}"] if "trust" in chosen else [])
    with asking(asker()):
        given_uri(uri)
        return test_part_again(run, uri)


def _lines(metrics: Mapping[str, float]) -> list[str]:
    """Return a line for each metric, with its interval where it has one."""
    from reglab.analysis.formatting import number

    names = [key for key in metrics if not key.endswith(("_se", "_low", "_high"))]
    width = max(map(len, names), default=0)
    lines = []
    for name in names:
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        low, high = (None if end is None or end != end else number(end) for end in ends)
        interval = f"  [{low}, {high}]" if low is not None and high is not None else ""
        lines.append(f"{name:<{width}}  {number(metrics[name])}{interval}")
    return lines
