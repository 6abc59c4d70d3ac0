"""State of a run, read from its journal: status, tags, results, whether it can resume. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reglab.core.errors import UserError
from reglab.tracking.folder import IDENTITY, JOURNAL, has_records
from reglab.tracking.folder_gate import check_run_folder
from reglab.tracking.journal_lines import marked, metric_rows

FINGERPRINT, DIGEST = "reglab.fingerprint", "reglab.data_digest"
WORKING_FOLDER, EPOCHS = "reglab.working_folder", "reglab.epochs"
FUSED, SWEEP = "reglab.fused", "reglab.sweep"
_OF_JOB = ("reglab.job", "reglab.block", "reglab.path")  # of a job in a sweep
RESUMED, EXTENDED = "reglab.resumed", "reglab.extended"
_STATUS, _TAGS, _RESULTS = b'"status":', b'"tags":', (b'"final/', b'"test/')


@dataclass(frozen=True)
class RunState:
    """State of a run according to its journal, which leads the store.

    Args:
        folder: Of the run.
        status: The last one recorded.
        tags: With their last values.
        results: The final metrics of a finished run: ``final/...`` without its prefix,
            ``test/...``.
    """

    folder: Path
    status: str = "RUNNING"
    tags: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether its loss diverged, which training again would only repeat."""
        return self.status == "FAILED" and self.tags.get("reglab.failure") == "diverged"

    @property
    def conclusive(self) -> bool:
        """Whether it finished or diverged: training again would only repeat it."""
        return self.status == "FINISHED" or self.diverged

    @property
    def message(self) -> str:
        """Why it ended so; empty where it finished."""
        return self.tags.get("reglab.message", "")

    @property
    def weights(self) -> str:
        """Which weights it stands for: ``last`` or ``best``."""
        return self.tags.get("reglab.weights", "last")

    def is_resumed_by(self, tags: Mapping[str, Any]) -> bool:
        """Return whether the job whose run would be opened with these tags resumes this run.

        It does where the run belongs to the same sweep, computes the same, trains alone and is not
        conclusive. A member of a pack is not resumed alone: its earlier rows were rounded
        differently.
        """
        same = all(self.tags.get(key, "") == str(tags.get(key, "")) for key in (FINGERPRINT, SWEEP))
        return same and not self.conclusive and FUSED not in self.tags


def read_state(folder: Path) -> RunState | None:
    """Return the state of the run in ``folder``; None where there is no run.

    Raises:
        UserError: Where the folder leads out of itself.
    """
    check_run_folder(folder)
    if not ((folder / IDENTITY).is_file() and (folder / JOURNAL).is_file()):
        return None
    status, tags, results = None, dict[str, str](), dict[str, float]()
    for content in marked(folder / JOURNAL, _STATUS, _TAGS, *_RESULTS):  # the last one first
        status = status or content.get("status")
        tags = {**content.get("tags", {}), **tags}
        for row in metric_rows(content):
            if row.key.startswith(("final/", "test/")):
                results.setdefault(row.key.removeprefix("final/"), row.value)
    return RunState(folder, status or "RUNNING", tags, results if status == "FINISHED" else {})


def last_status(folder: Path) -> str:
    """Return the last status in the journal of the run in ``folder``; RUNNING if none is recorded.

    Nothing else is read, so that a run of a million rows is answered at once.

    Raises:
        UserError: Where ``folder`` holds no run, or leads out of itself.
    """
    check_run_folder(folder)
    if not has_records(folder) and (folder / IDENTITY).exists():
        return "RUNNING"
    try:
        statuses = (content["status"] for content in marked(folder / JOURNAL, _STATUS) if "status" in content)
        return str(next(statuses, "RUNNING"))
    except OSError as error:
        raise UserError(f"{folder} holds no run that can be read ({error}): give the folder of a run") from error


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
