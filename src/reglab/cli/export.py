"""``reglab export`` and ``reglab register``: a run's model for other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from reglab.cli.predict import opened
from reglab.cli.questions import asker
from reglab.cli.report_dashboard import given_uri, reading_parser
from reglab.cli.settings import settings
from reglab.core.errors import UserError, nearest
from reglab.core.terminal import inline


def export(arguments: Sequence[str]) -> int:
    """Run ``reglab export``; return 0."""
    parser = reading_parser("export", "Write the model of a run as files that need no reglab.")
    parser.add_argument("run", help="the folder, id or name of a run; or of a sweep: the setting that it chose")
    parser.add_argument("settings", nargs="*", default=[], help="format=torch|onnx out=FOLDER weights=last|best")
    given = parser.parse_intermixed_args(list(arguments))
    chosen = settings(given.settings, ("format", "out", "weights", "trust"))
    from reglab.inference.export import Format
    from reglab.inference.export import export as write

    form = next((each for each in get_args(Format) if each == chosen.get("format", "torch")), None)
    if form is None:
        raise UserError(f"format={chosen['format']}: {nearest(chosen['format'], get_args(Format))}")
    folder = Path(chosen.get("out", "exported")).expanduser()
    for path in write(opened(given.run, given.uri, chosen).predictor, folder, form):
        print(path)
    return 0


def register(arguments: Sequence[str]) -> int:
    """Run ``reglab register``; return 0."""
    parser = reading_parser("register", "Log the model of a run in MLflow, and register it by a name.")
    parser.add_argument("run", help="the folder, id or name of a run; or of a sweep: the setting that it chose")
    parser.add_argument("settings", nargs="*", default=[], help="name=churn alias=champion")
    given = parser.parse_intermixed_args(list(arguments))
    chosen = settings(given.settings, ("name", "alias", "trust"))
    if not chosen.get("name"):
        raise UserError("give the name under which the model is registered: reglab register RUN name=churn")
    from reglab.cli.import_path import trust_given
    from reglab.inference.register import register as enter
    from reglab.tracking.store_gate import asking

    trust_given([f"trust={chosen['trust']}"] if "trust" in chosen else [])
    with asking(asker()):
        given_uri(given.uri)
        made = enter(given.run, chosen["name"], chosen.get("alias"), given.uri)
    name, alias = chosen["name"], chosen.get("alias")
    uri = f"models:/{name}@{alias}" if alias else f"models:/{name}/{made.version}"
    print(f"{name} version {made.version}: the model of {inline(made.run)} ({made.model_id}). In Python:")
    print(f"mlflow.pyfunc.load_model({uri!r})")
    return 0
