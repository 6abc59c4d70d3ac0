"""Which attempt at a job counts."""

from dataclasses import dataclass, field

from reglab.tracking.run_record import select_attempts


@dataclass
class Run:
    run_id: str
    status: str
    job: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        return {"reglab.job": self.job, **self.more}


def ids(*runs: Run) -> list[str]:
    return [run.run_id for run in select_attempts(runs)]


def test_the_newest_finished_attempt_counts_and_unfinished_ones_do_not():
    tries = [Run("a", "KILLED", "0"), Run("b", "FINISHED", "0"), Run("c", "FINISHED", "0"), Run("d", "KILLED", "0")]
    assert ids(*tries) == ["c"]


def test_a_job_that_never_finished_has_its_newest_attempt():
    assert ids(Run("a", "FAILED", "0"), Run("b", "KILLED", "0")) == ["b"]


def test_divergence_is_a_result_too():
    diverged = Run("a", "FAILED", "0", {"reglab.failure": "diverged"})
    assert ids(diverged, Run("b", "KILLED", "0")) == ["a"]


def test_what_is_superseded_does_not_count_even_alone():
    old = Run("a", "FINISHED", "0", {"reglab.superseded": "the data changed"})
    assert ids(old, Run("b", "KILLED", "0")) == ["b"]
    assert ids(old) == []


def test_jobs_stand_in_their_order_and_runs_without_a_job_all_count():
    assert ids(Run("a", "FINISHED", "10"), Run("b", "FINISHED", "2")) == ["b", "a"]
    assert ids(Run("a", "FINISHED"), Run("b", "FAILED")) == ["a", "b"]
