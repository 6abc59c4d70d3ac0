"""State of a run read from its journal: status, tags, whether it can resume. No store, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from reglab.tracking.folder import IDENTITY, JOURNAL
from reglab.tracking.journal_lines import lines, metric_rows

FINGERPRINT, DIGEST = "reglab.fingerprint", "reglab.data_digest"
WORKING_FOLDER, EPOCHS = "reglab.working_folder", "reglab.epochs"
FUSED, SWEEP = "reglab.fused", "reglab.sweep"
_OF_JOB = ("reglab.job", "reglab.block", "reglab.path")  # of a job in a sweep
RESUMED, EXTENDED = "reglab.resumed", "reglab.extended"


@dataclass(frozen=True)
class RunState:
    """State of a run according to its journal.

    Args:
        status: The last one recorded.
        tags: With their last values.
    """

    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether its loss diverged, which training again would only repeat."""
        return self.status == "FAILED" and self.tags.get("reglab.failure") == "diverged"

    @property
    def conclusive(self) -> bool:
        """Whether it finished or diverged: training again would only repeat it."""
        return self.status == "FINISHED" or self.diverged


def read_state(folder: Path) -> RunState | None:
    """Return the state of the run in ``folder``; None where there is no run."""
    if not ((folder / IDENTITY).is_file() and (folder / JOURNAL).is_file()):
        return None
    status, tags = "RUNNING", {}
    for line in lines(folder / JOURNAL):
        status = str(line.content.get("status", status))
        tags.update(line.content.get("tags", {}))
    return RunState(status, tags)


def resumable_state(folder: Path, tags: Mapping[str, Any]) -> RunState | None:
    """Return the state of the run in ``folder`` if this job resumes that run, else None.

    It does where the run belongs to the same sweep, computes the same, trains alone and is not
    conclusive. A member of a pack is not resumed alone: its earlier rows were rounded differently.

    Args:
        folder: The folder of the job's run.
        tags: Those that the job's run would be opened with.
    """
    state = read_state(folder)
    if state is None or any(state.tags.get(key, "") != str(tags.get(key, "")) for key in (FINGERPRINT, SWEEP)):
        return None
    return None if state.conclusive or FUSED in state.tags else state


def results(folder: Path) -> dict[str, float]:
    """Return the final metrics of the run in ``folder``.

    ``final/...`` without prefix, ``test/...``.
    """
    return {
        row.key.removeprefix("final/"): row.value
        for line in lines(folder / JOURNAL)
        for row in metric_rows(line.content)
        if row.key.startswith(("final/", "test/"))
    }


def final_result(folder: Path) -> tuple[Literal["FINISHED", "FAILED"], str, dict[str, float]] | None:
    """Return (status, message, results) of the run in ``folder``, None if not conclusive."""
    state = read_state(folder)
    if state is None or not state.conclusive:
        return None
    message = state.tags.get("reglab.message", "")
    return ("FAILED", message, {}) if state.diverged else ("FINISHED", message, results(folder))


def initial_tags(tags: Mapping[str, Any], digest: str, epochs: int) -> dict[str, str]:
    """Return the tags that a run records in its journal, so that it can resume without a store.

    Args:
        tags: Those that it is opened with.
        digest: Digest of its data.
        epochs: Its budget.
    """
    identifying = {key: str(tags.get(key, "")) for key in (FINGERPRINT, SWEEP)}
    if identifying[SWEEP]:
        identifying |= {key: str(tags[key]) for key in _OF_JOB if key in tags}
    return {**identifying, DIGEST: digest, WORKING_FOLDER: str(Path.cwd()), EPOCHS: str(epochs)}


def resume_tags(earlier: RunState, epochs: int) -> dict[str, str]:
    """Return the tags of a resumed run: number of resumes, extension, empty message.

    Args:
        earlier: The state before it is resumed.
        epochs: The budget from now on.
    """
    tags = {RESUMED: str(int(earlier.tags.get(RESUMED, 0)) + 1), "reglab.message": ""}
    before = earlier.tags.get(EPOCHS, str(epochs))
    return tags if before == str(epochs) else {**tags, EXTENDED: f"from {before} to {epochs} epochs"}
