"""Runs of a sweep by their data set: losses of different data do not compare."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reglab.tracking.run_record import RunRecord

BLOCK = "reglab.block"
DATA_SET = ("data.name", "data.path", "data.target", "data._target_", "data.train._target_")


def by_data_set(records: "Iterable[RunRecord]") -> "dict[str, list[RunRecord]]":
    """Return runs by the name of their data set: by file or target where names are the same."""
    parts: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        parts.setdefault(tuple(record.params.get(key, "") for key in DATA_SET), []).append(record)
    names = [
        next((PurePath(value).name for key, value in enumerate(each) if _tells(value, key, list(parts))), "data")
        for each in parts
    ]
    files = [in_file_name(name) for name in names]
    distinct = [
        name if files.count(file) == 1 else f"{name} {place}"
        for place, (name, file) in enumerate(zip(names, files, strict=True), 1)
    ]
    return dict(zip(distinct, parts.values(), strict=True))


def _tells(value: str, key: int, parts: "list[tuple[str, ...]]") -> bool:
    """Tell whether a data set's value under a key is one of its own."""
    return value not in ("", "null", "None") and [each[key] for each in parts].count(value) == 1


def in_file_name(name: str) -> str:
    """Return the name of a data set as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def short_blocks(records: "list[RunRecord]") -> "list[RunRecord]":
    """Return runs of one data set whose blocks are named without what is the same for all of them.

    ``l2 (data=wine)`` becomes ``l2``, where no other block of these runs would be called so.
    """
    labels = {record.tags.get(BLOCK, "") for record in records}
    short = {label: label.partition(" (")[0] for label in labels}
    if len(set(short.values())) < len(labels):
        return records
    return [replace(each, tags={**each.tags, BLOCK: short[each.tags.get(BLOCK, "")]}) for each in records]
