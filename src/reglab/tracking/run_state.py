"""Whether the run in a folder can go on, by its journal alone: no store is asked. No torch, unlike the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reglab.tracking.folder import IDENTITY, JOURNAL
from reglab.tracking.journal_lines import lines, metric_rows

FINGERPRINT, DIGEST = "reglab.fingerprint", "reglab.data_digest"
PLACE, EPOCHS = "reglab.working_folder", "reglab.epochs"
FUSED, SWEEP = "reglab.fused", "reglab.sweep"
TIMES, EXTENDED = "reglab.resumed", "reglab.extended"


@dataclass(frozen=True)
class Told:
    """What a journal tells of its run. status: the last one recorded; tags: with their last values."""

    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether it failed in a way that training again would only repeat."""
        return self.status == "FAILED" and self.tags.get("reglab.failure") == "diverged"

    @property
    def over(self) -> bool:
        """Whether its training came to an end, good or bad."""
        return self.status == "FINISHED" or self.diverged


def told(folder: Path) -> Told | None:
    """Return what the journal in ``folder`` tells of its run; None where there is no run."""
    if not ((folder / IDENTITY).is_file() and (folder / JOURNAL).is_file()):
        return None
    status, tags = "RUNNING", {}
    for line in lines(folder / JOURNAL):
        status = str(line.content.get("status", status))
        tags.update(line.content.get("tags", {}))
    return Told(status, tags)


def goes_on(folder: Path, tags: Mapping[str, Any]) -> Told | None:
    """Return what is told of the run in ``folder`` if this job goes on as that run.

    So it is where it belongs to the same sweep, computes the same, trains alone, and its training is not over. A member
    of a pack does not go on alone: what it recorded until then was rounded in another way. tags: those that the job's
    run would be opened with.
    """
    found = told(folder)
    if found is None or any(found.tags.get(key, "") != str(tags.get(key, "")) for key in (FINGERPRINT, SWEEP)):
        return None
    return None if found.over or FUSED in found.tags else found


def results(folder: Path) -> dict[str, float]:
    """Return what the run in ``folder`` reached: ``final/...`` without its prefix, and ``test/...``."""
    return {
        row.key.removeprefix("final/"): row.value
        for line in lines(folder / JOURNAL)
        for row in metric_rows(line.content)
        if row.key.startswith(("final/", "test/"))
    }


def outcome(folder: Path) -> tuple[Literal["FINISHED", "FAILED"], str, dict[str, float]] | None:
    """Return status, message and results of the run in ``folder``, by its journal; None where training is not over."""
    found = told(folder)
    if found is None or not found.over:
        return None
    message = found.tags.get("reglab.message", "")
    return ("FAILED", message, {}) if found.diverged else ("FINISHED", message, results(folder))


def beginning(tags: Mapping[str, Any], digest: str, epochs: int) -> dict[str, str]:
    """Return what a run records of itself in its journal, so that it can go on without asking a store.

    tags: those that it is opened with. digest: of its data. epochs: its budget.
    """
    own = {key: str(tags.get(key, "")) for key in (FINGERPRINT, SWEEP)}
    return {**own, DIGEST: digest, PLACE: str(Path.cwd()), EPOCHS: str(epochs)}


def again(earlier: Told, epochs: int) -> dict[str, str]:
    """Return the tags of a run that goes on: how often it did, how far beyond its budget, no longer why it ended."""
    tags = {TIMES: str(int(earlier.tags.get(TIMES, 0)) + 1), "reglab.message": ""}
    before = earlier.tags.get(EPOCHS, str(epochs))
    return tags if before == str(epochs) else {**tags, EXTENDED: f"from {before} to {epochs} epochs"}
