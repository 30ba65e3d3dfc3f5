"""Tags of many photos as a file: Parquet, JSON Lines or CSV."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

DIGITS = 6  # of scores that are written as text
_TAG = pa.struct({"label": pa.string(), "score": pa.float32()})
_PARQUET = pa.schema({"file": pa.string(), "tags": pa.list_(_TAG), "error": pa.string()})


def write_tags(tables: Iterable[pa.Table], names: Sequence[str], file: Path, suffix: str) -> None:
    """Write the tags of all photos.

    Parquet and JSON Lines have a row for each photo: `file`, `tags` (a list of `label` and `score`, the surest first)
    and `error` of a photo that could not be read. CSV has a row for each tag, `file,label,score,error`, so that no
    name needs a separator; a photo without tags has one row without a label.

    Args:
        tables: with the columns of `tag_journal.SCHEMA`.
        names: of the labels.
        suffix: ".parquet", ".jsonl" or ".csv".
    """
    WRITERS[suffix](tables, names, file)


def check_suffix(file: Path) -> str:
    """The suffix of `file` in lower case, if there is such a format."""
    suffix = file.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"The tags can be written as {', '.join(WRITERS)}, got {str(file)!r}. Give it such a name.")
    return suffix


def tag_of(name: str, score: float) -> dict[str, Any]:
    """A tag as it is written as text."""
    return {"label": name, "score": round(score, DIGITS)}


def _write_parquet(tables: Iterable[pa.Table], names: Sequence[str], file: Path) -> None:
    import pyarrow.parquet as pq

    label_names = pa.array(names, pa.string())
    with pq.ParquetWriter(file, _PARQUET, compression="zstd") as writer:
        for table in tables:
            labels = table.column("labels").combine_chunks()
            scores = table.column("scores").combine_chunks()
            tags = pa.StructArray.from_arrays(
                [label_names.take(labels.flatten()), scores.flatten()], fields=list(_TAG)
            )
            offsets = np.concatenate([[0], np.cumsum(labels.value_lengths().to_numpy(zero_copy_only=False))])
            lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tags, type=_PARQUET.field("tags").type)
            writer.write_table(pa.table([table.column("file"), lists, table.column("error")], schema=_PARQUET))


def _write_json_lines(tables: Iterable[pa.Table], names: Sequence[str], file: Path) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for photo, tags, error in _photos(tables, names):
            row: dict[str, Any] = {"file": photo, "tags": [tag_of(*tag) for tag in tags]}
            lines.write(json.dumps(row | ({"error": error} if error else {}), ensure_ascii=False) + "\n")


def _write_csv(tables: Iterable[pa.Table], names: Sequence[str], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "label", "score", "error"])
        for photo, tags, error in _photos(tables, names):
            for name, score in tags:
                writer.writerow([photo, name, f"{score:.{DIGITS}f}", ""])
            if not tags:
                writer.writerow([photo, "", "", error or ""])


def _photos(
    tables: Iterable[pa.Table], names: Sequence[str]
) -> Iterator[tuple[str, list[tuple[str, float]], str | None]]:
    for table in tables:
        columns = (table.column(name).to_pylist() for name in ("file", "labels", "scores", "error"))
        for photo, labels, scores, error in zip(*columns, strict=True):
            yield photo, [(names[label], score) for label, score in zip(labels, scores, strict=True)], error


WRITERS: dict[str, Callable[[Iterable[pa.Table], Sequence[str], Path], None]] = {
    ".parquet": _write_parquet,
    ".jsonl": _write_json_lines,
    ".csv": _write_csv,
}
