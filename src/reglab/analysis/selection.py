"""Choose a setting: the best by validation, or the strongest within one standard error of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reglab.analysis.claims import Claim
from reglab.analysis.comparison import Comparison
from reglab.analysis.grouping import candidates
from reglab.analysis.paired import Difference
from reglab.analysis.per_example_file import Examples
from reglab.analysis.rules import DEFAULT, Rule, check_rule
from reglab.analysis.trial import Candidate, Trial
from reglab.core.errors import UserError
from reglab.core.metric_direction import lower_is_better

__all__ = ["Candidate", "Choice", "Trial", "pick", "select"]


@dataclass(frozen=True)
class Choice:
    """The result of the selection.

    Attributes:
        monitor: The metric that decides.
        candidates: All settings with a result.
        best: The candidate with the best mean of the monitor.
        chosen: The candidate that the rule chooses.
        baseline: The best candidate without a regularizer, if the sweep has one.
        blocks: Each block's own choice.
        failed: Runs that gave no result.
        absent: How many of the sweep's jobs have no run at all.
        rule: The rule that was applied.
        asked: The rule that was asked for, which may need per-example results.
        comparison: Of the candidates, example by example.
        rivals: Each block's best.
        compared: The candidates that could have been chosen.
    """

    monitor: str
    candidates: tuple[Candidate, ...]
    best: Candidate
    chosen: Candidate
    baseline: Candidate | None
    blocks: dict[str, Candidate]
    failed: tuple[Trial, ...]
    absent: int = 0
    rule: Rule = DEFAULT
    asked: Rule = DEFAULT
    comparison: Comparison = field(default_factory=lambda: Comparison({}, "val/loss"))
    rivals: tuple[Candidate, ...] = ()
    compared: tuple[Candidate, ...] = ()

    def loss(self, candidate: Candidate) -> float:
        """Return the mean of the monitor as something to minimize."""
        return _sign(self.monitor) * candidate.mean(self.monitor)

    def difference(self, first: Candidate, second: Candidate) -> Difference | None:
        """Return the paired difference in the monitor, below 0 where ``first`` is better."""
        return self.comparison.difference(first, second)

    def within(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is within one standard error of the best, paired if possible."""
        return candidate is self.best or _within(candidate, self.best, self.comparison, self.rule)

    def claim(self) -> Claim | None:
        """Return the joint claim of the ``claimed`` settings; None where it cannot be tested."""
        if self.baseline is None or not self.claimed:
            return None
        return self.comparison.claim(self.claimed, self.baseline)

    @property
    def claimed(self) -> tuple[Candidate, ...]:
        """The candidates with a regularizer that could have been chosen."""
        return tuple(candidate for candidate in self.compared if candidate.regularizer != "none")


def _sign(monitor: str) -> int:
    return 1 if lower_is_better(monitor) else -1


def _within(candidate: Candidate, best: Candidate, comparison: Comparison, rule: Rule) -> bool:
    """Tell whether a candidate is within one standard error of the best one.

    Paired, the error is that of their difference; ``1se`` takes the best one's own.
    """
    sign = _sign(comparison.monitor)
    paired = None if rule == "1se" else comparison.difference(candidate, best)
    if paired is not None:
        return paired.mean <= paired.error
    worse = sign * (candidate.mean(comparison.monitor) - best.mean(comparison.monitor))
    return worse <= best.estimate(comparison.monitor).error


def pick(ranked: Sequence[Candidate], comparison: Comparison, rule: Rule) -> tuple[Candidate, Candidate]:
    """Return the best candidate of a block and the one that the rule chooses.

    - ``best``: the best itself
    - ``paired_1se``: the strongest within one standard error of its difference to the best,
      examples and seeds crossed
    - ``1se``: the strongest within the best one's own standard error, unpaired

    A candidate is stronger if every swept number is at least as strong (Pareto order); what cannot
    be compared with the best in it is not chosen. Of several strongest ones the better one counts.

    Args:
        ranked: The candidates of a block.
        comparison: Of the candidates.
        rule: One of the above.

    Source: Breiman, Friedman, Olshen, Stone (1984), Classification and Regression Trees, section
    3.4.3.
    """
    monitor = comparison.monitor
    best = min(ranked, key=lambda c: _sign(monitor) * c.mean(monitor))
    if rule == "best":
        return best, best
    near = [c for c in ranked if c.at_least_as_strong(best) and (c is best or _within(c, best, comparison, rule))]
    strongest = [c for c in near if not any(o.strengths != c.strengths and o.at_least_as_strong(c) for o in near)]
    return best, min(strongest, key=lambda c: _sign(monitor) * c.mean(monitor))


def select(
    trials: Iterable[Trial],
    monitor: str = "val/loss",
    jobs: int | None = None,
    results: Mapping[str, Examples] | None = None,
    rule: Rule = DEFAULT,
) -> Choice:
    """Return the choice among a sweep's runs; see ``Choice``.

    A candidate that misses more repeats than another is left out: the mean over the seeds that it
    has is not comparable, and one lucky seed would win.

    Args:
        trials: The sweep's runs.
        monitor: The metric that decides.
        jobs: How many jobs the sweep has, if known.
        results: Per-example results by run id. Where some are missing, ``paired_1se`` falls back to
            ``1se``.
        rule: See ``pick``.

    Raises:
        UserError: No run has a result, or there is no such rule.
    """
    trials, asked = list(trials), check_rule(rule)
    all_candidates, failed = candidates(trials, monitor, jobs)
    if not all_candidates:
        raise UserError(_no_result(failed, monitor))
    fewest = min(c.missing for c in all_candidates)
    complete = [c for c in all_candidates if c.missing == fewest]
    comparison = Comparison(results or {}, monitor)
    if asked == "paired_1se" and not comparison.has(complete):
        rule = "1se"
    blocks = {
        block: pick([c for c in complete if c.block == block], comparison, rule)
        for block in dict.fromkeys(c.block for c in complete)
    }
    best, chosen = min(blocks.values(), key=lambda pair: _sign(monitor) * pair[0].mean(monitor))
    unregularized = [c for c in complete if c.regularizer == "none"] or [
        c for c in all_candidates if c.regularizer == "none"
    ]
    return Choice(
        monitor=monitor,
        candidates=all_candidates,
        best=best,
        chosen=chosen,
        baseline=min(unregularized, key=lambda c: _sign(monitor) * c.mean(monitor)) if unregularized else None,
        blocks={block: pair[1] for block, pair in blocks.items()},
        failed=failed,
        absent=max(0, (jobs or 0) - len({trial.job for trial in trials})),
        rule=rule,
        asked=asked,
        comparison=comparison,
        rivals=tuple(pair[0] for pair in blocks.values()),
        compared=tuple(complete),
    )


def _no_result(failed: Sequence[Trial], monitor: str) -> str:
    if not failed:
        return "nothing to choose from: the sweep has no runs. Run it first"
    if all(trial.status == "KILLED" for trial in failed):
        return (
            f"nothing to choose from yet: none of the {len(failed)} runs that the sweep has begun has finished. "
            "reglab resume SWEEP, or the sweep's command given again, runs the rest"
        )
    reason = next((f" ({trial.message})" for trial in failed if trial.message), "")
    return (
        f"nothing to choose from: none of the sweep's {len(failed)} runs finished with a finite {monitor}{reason}. "
        "Correct that and run the sweep again"
    )
