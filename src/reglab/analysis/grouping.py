"""Group runs into candidates: runs that repeat one setting, and its label."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reglab.analysis.formatting import compact
from reglab.analysis.trial import REPEATED, Candidate, Trial

# Config keys that are no part of a setting: paths, tracking, the job's number, how rows are read.
BOOKKEEPING = ("sweep.", "tracking.", "hydra.", "trust", "data.stream", "data.workers")
# Replicas repeat a setting as seeds do: they train on other rows, but are validated on the same
# ones. So do seeds of the first weights.
REPLICAS = ("data.replica", "init_seed")
_STRENGTH = "strength"  # key of the main number where the params have none

Group = list[Trial]


def candidates(
    trials: Iterable[Trial], monitor: str, jobs: int | None = None
) -> tuple[tuple[Candidate, ...], tuple[Trial, ...]]:
    """Group runs that differ only in seed, split seed, fold or replica.

    Of several attempts at one run the last usable one counts. A setting without any usable run is
    no candidate. Candidates come as the settings first appear, a block's settings together and from
    the weakest to the strongest.

    A candidate misses each seed, split or replica that another has a run of, even where MLflow has
    no run for it: an interrupted sweep has no record of jobs that never started. If every job has a
    run, a candidate is compared with the repeats of its own block only: blocks may have different
    seeds.

    Args:
        trials: The runs.
        monitor: The metric that decides.
        jobs: How many jobs the sweep has, if known.

    Returns:
        The candidates, and the runs without a result.
    """
    trials = list(trials)
    expected = _repeats(trials, by_block=jobs is not None and jobs <= len({trial.job for trial in trials}))
    blocks: dict[str, dict[object, Group]] = {}
    for trial in trials:
        setting = tuple(sorted(setting_of(trial.params).items())), trial.strength
        blocks.setdefault(trial.block, {}).setdefault(setting, []).append(trial)
    all_candidates: list[Candidate] = []
    failed: list[Trial] = []
    for groups in blocks.values():
        swept = _swept(list(groups.values()))
        members = []
        for group in groups.values():
            used, lost = _attempts(group, monitor)
            failed += lost
            if used:
                missing = expected[used[0].block] - {_repeat(trial) for trial in used}
                members.append(_candidate(used, len(missing), swept))
        all_candidates += sorted(members, key=lambda c: tuple(c.strengths.values()))
    return tuple(all_candidates), tuple(failed)


def _repeats(trials: Group, by_block: bool) -> dict[str, set[tuple[str, ...]]]:
    """Return, for each block, the repeats of its runs, or of the runs of all blocks."""
    return {
        block: {_repeat(trial) for trial in trials if trial.block == block or not by_block}
        for block in {trial.block for trial in trials}
    }


def _repeat(trial: Trial) -> tuple[str, ...]:
    return (*trial.repeat(), *trial.within_split[1:])


def setting_of(params: Mapping[str, str]) -> dict[str, str]:
    """Return the params that make a run's setting: without seeds, splits, replicas and bookkeeping."""
    return {
        key: value
        for key, value in params.items()
        if key not in (*REPEATED, *REPLICAS, "name") and not key.startswith(BOOKKEEPING)
    }


def _attempts(group: Group, monitor: str) -> tuple[Group, Group]:
    """Return the attempt that counts for each repeat: (usable, without a result)."""
    used: dict[tuple[str, ...], Trial] = {}
    lost: dict[tuple[str, ...], Trial] = {}
    for trial in group:
        (used if trial.usable(monitor) else lost)[_repeat(trial)] = trial
    return list(used.values()), [trial for repeat, trial in lost.items() if repeat not in used]


@dataclass(frozen=True)
class _Swept:
    """The config keys in which a block's settings differ.

    Attributes:
        ordered: Numbers that regularize more or less, with the sign that makes larger stronger.
        others: The rest.
        main: The first member's main number.
    """

    ordered: Mapping[str, int]
    others: tuple[str, ...]
    main: str

    @property
    def one(self) -> str:
        """The only number that is swept, empty if there are several or none."""
        return next(iter(self.ordered)) if len(self.ordered) == 1 else ""


def _swept(groups: Sequence[Group]) -> _Swept:
    firsts = [(group[0], setting_of(group[0].params)) for group in groups]
    keys = dict.fromkeys(key for _, setting in firsts for key in setting)
    # A tag keeps six digits of what the config holds in full; where two numbers follow the
    # strength, the first is it.
    equal_to_strength = [
        key for key in keys if all(_same_number(setting.get(key), trial.strength) for trial, setting in firsts)
    ]
    main = next((key for key in equal_to_strength if key.startswith("regularizer.")), _STRENGTH)
    direction_of = {main: firsts[0][0].stronger} | {
        key: sign for trial, _ in firsts for key, sign in trial.directions.items()
    }
    varying = [key for key in keys if len({setting.get(key) for _, setting in firsts}) > 1]
    ordered = {
        key: direction_of[key]
        for key in varying
        if key in direction_of and all(_number(setting.get(key)) is not None for _, setting in firsts)
    }
    if main not in keys and len({trial.strength for trial, _ in firsts}) > 1:
        ordered = {_STRENGTH: firsts[0][0].stronger} | ordered
    others = tuple(
        key
        for key in varying
        if key not in ordered
        and key not in equal_to_strength
        and not _implied_by_target(key, [setting for _, setting in firsts])
    )
    return _Swept(ordered, others, main)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _implied_by_target(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    """Whether the class (``_target_``) of a setting determines the value under ``key``."""
    chooser = "model._target_" if key == "data.shape" else f"{key.partition('.')[0]}._target_"
    if key == chooser or len({setting.get(chooser) for setting in settings}) < 2:
        return False
    pairs = {(setting.get(chooser), setting.get(key)) for setting in settings}
    return len(pairs) == len({chosen for chosen, _ in pairs})


def _same_number(text: str | None, value: float | None) -> bool:
    number = _number(text)
    return number is not None and value is not None and math.isclose(number, value, rel_tol=1e-5)


def _candidate(trials: Group, missing: int, swept: _Swept) -> Candidate:
    first, one = trials[0], swept.one
    values = {key: _number(first.params.get(key)) if key != _STRENGTH else first.strength for key in swept.ordered}
    several = tuple(key for key in swept.ordered if not one)
    settings = {key: first.params.get(key, "") for key in (*several, *swept.others)}
    strength = None if several else values[one] if one and one != swept.main else first.strength
    number = short_key(one, (one, *settings)) if one and one != swept.main else ""
    parts = [f"{number}={compact(strength)}" if number else compact(strength)] if strength is not None else []
    parts += [_shown(key, value, list(settings)) for key, value in settings.items()]
    return Candidate(
        block=first.block,
        regularizer=first.regularizer,
        strength=strength,
        stronger=swept.ordered[one] if one else first.stronger,
        label=" ".join([first.block, *parts]),
        trials=tuple(sorted(trials, key=_repeat)),
        settings=settings,
        missing=missing,
        number=number,
        strengths={key: sign * (values[key] or 0.0) for key, sign in swept.ordered.items()},
    )


def _shown(key: str, value: str, among: Iterable[str]) -> str:
    group, _, last = key.rpartition(".")
    return f"{group}={value.rpartition('.')[2]}" if last == "_target_" else f"{short_key(key, among)}={value}"


def short_key(key: str, among: Iterable[str]) -> str:
    """Return the last part of a config key, or more of it where that would be ambiguous.

    Args:
        key: The config key.
        among: The keys that are shown with it.
    """
    last = key.rpartition(".")[2]
    if last == "strength" or sum(other.rpartition(".")[2] == last for other in among) > 1:
        return key.removeprefix("regularizer.")
    return last
