"""A file of predictions, CSV or Parquet, written piece by piece; it is there when it is whole."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from reglab.core.atomic_write import writing
from reglab.core.errors import UserError

ENDINGS = (".csv", ".parquet")


class Write(Protocol):
    """Writes some rows."""

    def __call__(self, columns: Mapping[str, Any]) -> None: ...


def check_output(path: Path) -> None:
    """Check that predictions can be written to ``path``, before anything is computed.

    Raises:
        UserError: For another ending, and for what is there already.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"out={path}: let its name end in {' or '.join(ENDINGS)}")
    if path.exists():
        raise UserError(f"{path} is there already: give another name by out=FILE.csv, or remove it")
    if not path.parent.is_dir():
        raise UserError(f"out={path}: there is no folder {path.parent}: make it first")


@contextmanager
def output_file(path: Path) -> Iterator[Write]:
    """Return what writes rows to ``path``, which is there if the context ends without an error."""
    import pandas as pd

    with writing(path) as file:
        if path.suffix.lower() == ".csv":
            written = False

            def to_csv(columns: Mapping[str, Any]) -> None:
                nonlocal written
                text = pd.DataFrame(columns).to_csv(index=False, header=not written)
                file.write(text.encode("utf-8"))
                written = True

            yield to_csv
            return
        import pyarrow as pa
        from pyarrow import parquet

        writer: Any = None

        def to_parquet(columns: Mapping[str, Any]) -> None:
            nonlocal writer
            table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
            writer = writer or parquet.ParquetWriter(file, table.schema)
            writer.write_table(table.cast(writer.schema))

        try:
            yield to_parquet
        finally:
            if writer is not None:
                writer.close()
