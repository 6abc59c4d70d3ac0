"""Which setting to use: the best by validation, and the strongest that is within one standard error of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reglab.direction import lower_is_better
from reglab.errors import UserError
from reglab.sweeps.grouping import candidates
from reglab.sweeps.trial import Candidate, Trial

__all__ = ["Candidate", "Choice", "Trial", "one_standard_error", "select"]


@dataclass(frozen=True)
class Choice:
    """What selection found.

    monitor: the metric that decides. best: the candidate with the best mean of it. chosen: the strongest of the
    best one's block within one standard error of the best. baseline: the best candidate without a regularizer, if
    the sweep has one. blocks: each block's own one-standard-error choice. failed: runs that gave no result.
    absent: how many of the sweep's jobs have no run at all.
    """

    monitor: str
    candidates: tuple[Candidate, ...]
    best: Candidate
    chosen: Candidate
    baseline: Candidate | None
    blocks: dict[str, Candidate]
    failed: tuple[Trial, ...]
    absent: int = 0

    def loss(self, candidate: Candidate) -> float:
        """Return the monitored mean as something to minimize."""
        return _sign(self.monitor) * candidate.mean(self.monitor)

    @property
    def error(self) -> float:
        """The standard error of the best candidate's monitored mean: the tolerance of the rule."""
        return self.best.estimate(self.monitor).error

    def within(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is within one standard error of the best."""
        return self.loss(candidate) <= self.loss(self.best) + self.error


def _sign(monitor: str) -> int:
    return 1 if lower_is_better(monitor) else -1


def one_standard_error(ranked: Sequence[Candidate], monitor: str) -> tuple[Candidate, Candidate]:
    """Return the best candidate and the strongest one whose mean is within one standard error of it.

    Strength orders candidates of one block only; without strengths the best itself is the choice. Among equally
    strong ones the better counts.
    Source: Breiman, Friedman, Olshen, Stone (1984), Classification and Regression Trees, section 3.4.3.
    """
    best = min(ranked, key=lambda c: _sign(monitor) * c.mean(monitor))
    if best.strength is None:
        return best, best
    limit = _sign(monitor) * best.mean(monitor) + best.estimate(monitor).error
    near = [c for c in ranked if c.strength is not None and _sign(monitor) * c.mean(monitor) <= limit]
    return best, max(near, key=lambda c: (c.stronger * (c.strength or 0.0), -_sign(monitor) * c.mean(monitor)))


def select(trials: Iterable[Trial], monitor: str = "val/loss", jobs: int | None = None) -> Choice:
    """Return the choice among a sweep's runs; see ``Choice``.

    A candidate that misses more repeats than another is left out: the mean over the seeds that it has is not
    comparable, and one lucky seed would win. jobs: how many the sweep has, if known. Raises ``UserError`` if no run
    has a result.
    """
    trials = list(trials)
    found, failed = candidates(trials, monitor, jobs)
    if not found:
        raise UserError(_nothing(failed, monitor))
    fewest = min(c.missing for c in found)
    complete = [c for c in found if c.missing == fewest]
    blocks = {
        block: one_standard_error([c for c in complete if c.block == block], monitor)
        for block in dict.fromkeys(c.block for c in complete)
    }
    best, chosen = min(blocks.values(), key=lambda pair: _sign(monitor) * pair[0].mean(monitor))
    bare = [c for c in complete if c.regularizer == "none"] or [c for c in found if c.regularizer == "none"]
    return Choice(
        monitor=monitor,
        candidates=found,
        best=best,
        chosen=chosen,
        baseline=one_standard_error(bare, monitor)[0] if bare else None,
        blocks={block: pair[1] for block, pair in blocks.items()},
        failed=failed,
        absent=max(0, (jobs or 0) - len({trial.job for trial in trials})),
    )


def _nothing(failed: Sequence[Trial], monitor: str) -> str:
    if not failed:
        return "nothing to choose from: the sweep has no runs. Run it first"
    why = next((f" ({trial.message})" for trial in failed if trial.message), "")
    return (
        f"nothing to choose from: none of the sweep's {len(failed)} runs finished with a finite {monitor}{why}. "
        "Correct that and run the sweep again"
    )
