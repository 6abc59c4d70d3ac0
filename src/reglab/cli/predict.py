"""``reglab predict``: the predictions of a run's model for a file of new rows."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglab.cli.questions import asker
from reglab.cli.report_dashboard import given_uri, reading_parser
from reglab.cli.settings import READING, settings, several
from reglab.core.errors import UserError
from reglab.core.terminal import inline

if TYPE_CHECKING:
    from reglab.data.table_options import Reading
    from reglab.inference.find import Found

_KEYS = ("data.path", "out", "keep", "weights", "trust", *(f"data.{key}" for key in READING))


def predict(arguments: Sequence[str]) -> int:
    """Run ``reglab predict``; return 0.

    Raises:
        UserError: For a run, a file or a value that cannot be used.
    """
    parser = reading_parser("predict", "Predict the rows of a file by the model of a run, prepared as in training.")
    parser.add_argument("run", help="the folder, id or name of a run; or of a sweep: the setting that it chose")
    parser.add_argument("settings", nargs="*", default=[], help="data.path=new.csv out=predictions.csv keep=id")
    given = parser.parse_intermixed_args(list(arguments))
    chosen = settings(given.settings, _KEYS)
    if "data.path" not in chosen:
        raise UserError("give the file of the rows to predict: reglab predict RUN data.path=new.csv")
    from reglab.inference.output_file import check_output
    from reglab.inference.predict_file import predict_file

    path = Path(chosen["data.path"]).expanduser()
    out = Path(chosen["out"]).expanduser() if "out" in chosen else default_output(path)
    check_output(out)
    predictor = opened(given.run, given.uri, chosen).predictor
    for line in predict_file(predictor, path, out, several(chosen.get("keep", ""))):
        print(inline(line), file=sys.stderr)
    print(f"{predictor.remarks.rows} predictions: {out}")
    return 0


def default_output(path: Path) -> Path:
    """Return where predictions of ``path`` go: beside it, or beside the first of several."""
    path = path if path.exists() else Path(str(path).removeprefix("[").partition(",")[0])
    return path.with_name(f"{path.name.split('.')[0]}_predictions.csv")


def opened(run: str, uri: str | None, chosen: Mapping[str, str]) -> "Found":
    """Return the model of a run.

    Args:
        run: As it was typed.
        uri: Of the store, None: the default.
        chosen: Settings: ``weights``, ``trust``, and ``data.separator`` and so on.
    """
    from reglab.cli.import_path import trust_given
    from reglab.inference.find import found
    from reglab.tracking.store_gate import asking

    trust_given([f"trust={chosen['trust']}"] if "trust" in chosen else [])
    with asking(asker()):
        given_uri(uri)
        model = found(run, chosen.get("weights"), uri)
    model.predictor.reading = _reading(model.predictor.reading, chosen)
    return model


def _reading(reading: "Reading", chosen: Mapping[str, str]) -> "Reading":
    options: dict[str, Any] = {key: chosen[f"data.{key}"] for key in READING if f"data.{key}" in chosen}
    if "header" in options:
        options["header"] = {"true": True, "false": False}.get(options["header"].lower(), options["header"])
    if "missing" in options:
        options["missing"] = several(options["missing"])
    return replace(reading, **options)
