"""Full metric series as Parquet (``metrics.parquet``), beside the thinned ones in the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from reglab.core import atomic_write
from reglab.tracking.journal_lines import Row, decode
from reglab.tracking.thinning import Thinning

_BLOCK = 1 << 25  # bytes of a journal at once
_TYPES = pa.schema([("time", pa.int64()), ("step", pa.int64())])
_ENCODINGS = {"step": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}


class Curve(NamedTuple):
    """All rows of one key, by step.

    Args:
        timestamp: Milliseconds since 1970.
    """

    step: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    timestamp: npt.NDArray[np.int64]


def read_series(journal: Path, block: int = _BLOCK) -> dict[str, Curve]:
    """Return all metric rows of a journal by key, reading ``block`` bytes of it at a time."""
    parts: dict[str, list[Curve]] = {}
    with journal.open("rb") as file:
        rest = b""
        while read := file.read(block):
            whole, _, rest = (rest + read).rpartition(b"\n")
            for key, curve in _curves(whole.split(b"\n"), block):
                parts.setdefault(key, []).append(curve)
    return {key: _joined(rows) for key, rows in parts.items()}


def complete(journal: Path, rule: Thinning, path: Path, ended: bool = True) -> tuple[str, list[Row]] | None:
    """Write all rows of a journal to ``path`` as Parquet, durably, if ``rule`` left any out.

    The columns are key, step, value and timestamp, sorted by key and step.

    Args:
        journal: The journal of a run.
        rule: The run's budget of points.
        path: The Parquet file.
        ended: Whether the run has ended.

    Returns:
        How many points of the longest series the store has, as text, and, if the run has ended,
        the last row of each series whose last row was left out, for the store. None if no row was
        left out.
    """
    curves = read_series(journal)
    kept = {key: _kept(rule, key, curve.step) for key, curve in curves.items()}
    if all(mask.all() for mask in kept.values()):
        return None
    names = sorted(curves)
    with atomic_write.writing(path) as file:
        columns = _columns(names, [curves[name] for name in names])
        pq.write_table(columns, file, compression="zstd", use_dictionary=["key"], column_encoding=_ENCODINGS)
    late = [key for key, mask in kept.items() if ended and not mask[-1]]
    for key in late:
        kept[key][-1] = True
    return f"{_counts(kept)}; all in {path.name}", [_last_row(key, curves[key]) for key in late]


def _counts(kept: dict[str, npt.NDArray[np.bool_]]) -> str:
    longest = max(map(len, kept.values()))
    sent = sorted({int(mask.sum()) for mask in kept.values() if len(mask) == longest})
    few = f"{sent[0]} to " if len(sent) > 1 else ""
    return f"{few}{sent[-1]} of {longest}"


def _curves(lines: Sequence[bytes], block: int) -> list[tuple[str, Curve]]:
    regular: list[bytes] = []
    irregular: list[bytes] = []
    for line in lines:  # NaN and infinities are no JSON, which Arrow insists on
        is_regular = b'"metrics":{' in line and b"NaN" not in line and b"Infinity" not in line
        (regular if is_regular else irregular).append(line)
    try:
        curves = _read_fast(regular, block)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # one that cannot be read stops it
        curves, irregular = [], list(lines)
    return [*curves, *_read_each(irregular)]


def _read_fast(lines: Sequence[bytes], block: int) -> list[tuple[str, Curve]]:
    """Return the curves of lines of metric rows.

    Arrow reads them four times as fast, and releases the GIL.
    """
    if not lines:
        return []
    table = pyarrow.json.read_json(
        pa.BufferReader(b"\n".join(lines)),
        read_options=pyarrow.json.ReadOptions(block_size=block),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=_TYPES),
    )
    metrics = table["metrics"].combine_chunks()
    step, time = (table[name].to_numpy() for name in ("step", "time"))
    curves = []
    for number, field in enumerate(metrics.type):
        column = metrics.field(number).cast(pa.float64())
        present = slice(None) if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)
        value = column.to_numpy(zero_copy_only=False)
        curves.append((field.name, Curve(step[present], value[present], time[present])))
    return curves


def _read_each(lines: Sequence[bytes]) -> Iterator[tuple[str, Curve]]:
    points: dict[str, list[tuple[int, float, int]]] = {}
    for line in lines:
        content = decode(line) or {}
        for key, value in content.get("metrics", {}).items():
            points.setdefault(key, []).append((content["step"], value, content["time"]))
    for key, rows in points.items():
        step, value, time = zip(*rows, strict=True)
        yield key, Curve(np.array(step, np.int64), np.array(value, np.float64), np.array(time, np.int64))


def _joined(parts: Sequence[Curve]) -> Curve:
    step, value, timestamp = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if np.all(step[1:] > step[:-1]):
        return Curve(step, value, timestamp)
    order = np.argsort(step, kind="stable")
    return Curve(step[order], value[order], timestamp[order])


def _kept(rule: Thinning, key: str, step: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    last = step == rule.last if rule.last is not None else False
    return np.asarray((step % rule.stride_of(key) == 0) | last)


def _columns(names: Sequence[str], curves: Sequence[Curve]) -> pa.Table:
    lengths = [len(curve.step) for curve in curves]
    codes = np.repeat(np.arange(len(names), dtype=np.int32), lengths)
    step, value, timestamp = (np.concatenate(columns) for columns in zip(*curves, strict=True))
    key = pa.DictionaryArray.from_arrays(codes, names)
    return pa.table({"key": key, "step": step, "value": value, "timestamp": timestamp})


def _last_row(key: str, curve: Curve) -> Row:
    return Row(key, float(curve.value[-1]), int(curve.timestamp[-1]), int(curve.step[-1]))
