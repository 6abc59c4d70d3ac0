"""``JobRequest``: what a sweep asks of one job, and its only encoding where Hydra takes strings.

Hydra hands a launcher lists of overrides, and a job one config. There the request is one override,
or one key, which the job's task takes out again before anything is built or recorded.
"""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from reglab.core.override import in_grammar

KEY = "reglab_request"
_PREFIX, _SUFFIX = f"++{KEY}='", "'"
_SUBDIR, _NUMBER = "hydra.sweep.subdir=", "${hydra.job.num}"
JOB, SWEEP, BLOCK, PATH = "reglab.job", "reglab.sweep", "reglab.block", "reglab.path"  # tags of runs
RECORDED = ("job", "parent", "block", "after", "start", "trail", "resume")  # keys of ``sweep`` in older configs
# Hydra quotes with the one and interpolates after the other; JSON can write both as escapes.
_ESCAPES = {"'": "\\u0027", "$": "\\u0024"}


@dataclass(frozen=True)
class WarmStart:
    """The job before on a path (``sweep.path``), from whose weights a job starts.

    Attributes:
        after: Its number.
        folder: Of its run.
        trail: The hash of what the jobs before this one compute.
    """

    after: int
    folder: Path
    trail: str


@dataclass(frozen=True)
class JobRequest:
    """One job of a sweep, as the sweep asks a launcher for it and the launcher a worker.

    Attributes:
        number: In the sweep; also Hydra's job number.
        overrides: That compose its config.
        parent: The sweep's run.
        block: The label of its block.
        folder: Of its run, absolute; empty where a launcher of Hydra's own makes it.
        start: Where it starts on a path.
    """

    number: int
    overrides: tuple[str, ...] = ()
    parent: str = ""
    block: str = ""
    folder: Path = Path()
    start: WarmStart | None = None

    @property
    def trail(self) -> str | None:
        """The hash of what the jobs before it on its path compute."""
        return self.start.trail if self.start else None

    def tags(self) -> dict[str, str]:
        """Return the tags of its run, from which ``from_tags`` returns the request.

        There are none without a parent: another sweeper's jobs are recorded as single runs.
        """
        if not self.parent:
            return {}
        path = {PATH: _text(self.start)} if self.start else {}
        return {SWEEP: self.parent, BLOCK: self.block, JOB: str(self.number), **path}


def from_tags(tags: Mapping[str, str]) -> JobRequest | None:
    """Return the request, without overrides and folder, of the job whose run has these tags.

    Args:
        tags: As its journal has them.

    Returns:
        None for a run outside of sweeps.
    """
    if not tags.get(JOB):
        return None
    start = _start(json.loads(tags[PATH])) if tags.get(PATH) else None
    return JobRequest(int(tags[JOB]), parent=tags.get(SWEEP, ""), block=tags.get(BLOCK, ""), start=start)


def take_recorded(config: MutableMapping[str, Any]) -> JobRequest | None:
    """Remove from a config what older versions recorded of a job's request, and return that.

    Args:
        config: ``config.yaml`` of a run.

    Returns:
        None for a run outside of sweeps, and for one of a version without such keys.
    """
    sweep = config.get("sweep") or {}
    old = {key: sweep.pop(key, None) for key in RECORDED}
    if old["job"] is None:
        return None
    start = WarmStart(int(old["after"]), Path(old["start"]), str(old["trail"])) if old["start"] else None
    return JobRequest(int(old["job"]), parent=old["parent"] or "", block=old["block"] or "", start=start)


def encode(request: JobRequest, position: int, subdir: str) -> list[str]:
    """Return a job's overrides for a launcher of Hydra's own, the request among them.

    Args:
        request: Of the job.
        position: Among the jobs that the launcher gets: it numbers them from 0.
        subdir: ``hydra.sweep.subdir`` as written. Where it names the job's number and the launcher
            would count otherwise, the number in the sweep is written into it.
    """
    named = subdir.replace(_NUMBER, str(request.number))
    moved = [f"{_SUBDIR}{in_grammar(named)}"] if request.number != position and named != subdir else []
    return [*request.overrides, *moved, f"{_PREFIX}{_encoded(request)}{_SUFFIX}"]


def decode(overrides: Sequence[str], number: int) -> JobRequest:
    """Return the request of a job that Hydra hands to a launcher.

    Args:
        overrides: Of the job.
        number: Of the job where there is no request: another sweeper wrote the overrides.
    """
    text = next((each for each in overrides if each.startswith(_PREFIX)), None)
    if text is None:
        return JobRequest(number, tuple(overrides))
    own = tuple(each for each in overrides if not each.startswith((_PREFIX, _SUBDIR)))
    return replace(_decoded(text.removeprefix(_PREFIX).removesuffix(_SUFFIX)), overrides=own)


def attach(config: DictConfig, request: JobRequest) -> DictConfig:
    """Return a job's config with the request in it: a task function takes nothing else."""
    with open_dict(config):
        config[KEY] = _encoded(request)
    return config


def take(config: DictConfig) -> JobRequest | None:
    """Remove the request from a job's config and return it without overrides; None without one."""
    if KEY not in config:
        return None
    with open_dict(config):
        return _decoded(str(config.pop(KEY)))


def without_request(overrides: Sequence[str]) -> list[str]:
    """Return overrides without the one that ``encode`` adds."""
    return [override for override in overrides if not override.startswith(_PREFIX)]


def _encoded(request: JobRequest) -> str:
    text = _text(replace(request, overrides=()))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _decoded(text: str) -> JobRequest:
    content = json.loads(text)
    start = _start(content["start"]) if content["start"] else None
    return JobRequest(
        int(content["number"]),
        parent=str(content["parent"]),
        block=str(content["block"]),
        folder=Path(content["folder"]),
        start=start,
    )


def _start(content: Mapping[str, Any]) -> WarmStart:
    return WarmStart(int(content["after"]), Path(content["folder"]), str(content["trail"]))


def _text(value: JobRequest | WarmStart) -> str:
    return json.dumps(asdict(value), default=str)
