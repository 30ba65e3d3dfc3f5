"""The tags of a long run, batch by batch on the disk, so that a run that was stopped goes on where it was."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from ..data.files import replace_text
from ..faults import writing

SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "file": pa.string(),
        "labels": pa.list_(pa.int32()),
        "scores": pa.list_(pa.float32()),
        "error": pa.string(),
    }
)
WINDOW = 20_000  # rows that are put into order at a time


class Journal:
    """A folder with what the processes of a run have found so far.

    Each process appends to a file of its own, which nothing else writes to. A file that ends in the middle of a batch
    was being written when its process was killed: that batch counts as not done.

    Args:
        folder: made where there is none.
        settings: all that results depend on. A folder that was begun with others is an error.
        process: number of this process.
        launch: what all processes of this launch, and no others, have in common.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], process: int = 0, launch: str = ""):
        self.folder = folder
        finishing = _finishing(folder)
        if finishing.exists() and not folder.exists():
            finishing.rename(folder)  # a process was killed while it put the results together
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f"process-{process}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"Another run is tagging into {folder}. Wait for it, or stop it first.") from None
        self._check(settings)
        replace_text(folder / f"settings-{process}.json", json.dumps(settings, ensure_ascii=False))
        number = sum(1 for _ in folder.glob(f"tags-{process}-*.arrows"))
        self._writer = pa.ipc.new_stream(str(folder / f"tags-{process}-{number}.arrows"), SCHEMA)
        replace_text(folder / f"arrived-{process}", launch)  # last: from now on the folder may be claimed

    def _check(self, settings: Mapping[str, Any]) -> None:
        for file in self.folder.glob("settings-*.json"):
            begun = json.loads(file.read_text(encoding="utf-8"))
            changed = [name for name in settings if begun.get(name) != settings[name]]
            if changed:
                raise ValueError(
                    f"{self.folder} has the unfinished results of a run with other {' and '.join(changed)}. Give the "
                    "same ones to go on with it, or --overwrite to begin anew."
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()
        self._lock.release()

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append the results of a batch; `columns` are those of `SCHEMA`, rows in ascending order."""
        with writing(self.folder, "The same command goes on with what is done."):
            self._writer.write_batch(pa.record_batch(dict(columns), schema=SCHEMA))


def done_rows(folder: Path, total: int) -> np.ndarray:
    """Which of `total` rows have results, `(total,)` bool."""
    done = np.zeros(total, dtype=bool)
    for file in folder.glob("tags-*.arrows"):
        for batch in _batches(file):
            done[batch.column("row").to_numpy()] = True
    return done


def in_order(folder: Path, total: int) -> Iterator[pa.Table]:
    """All results by ascending rows, some thousands at a time; each file has its rows in this order already."""
    streams = [_Stream(file) for file in sorted(folder.glob("tags-*.arrows"))]
    for start in range(0, total, WINDOW):
        stop = min(start + WINDOW, total)
        table = pa.concat_tables([stream.until(stop) for stream in streams]).sort_by("row")
        if not np.array_equal(table.column("row").to_numpy(), np.arange(start, stop)):
            raise RuntimeError(f"{folder} does not have each of the rows {start} to {stop} once. Use --overwrite.")
        yield table


def claim(folder: Path, total: int, num_processes: int = 1, launch: str = "") -> Path | None:
    """The folder of a finished run, renamed, for the one process that shall put its results together; `None` for all
    others, and as long as some process is not done, or has not begun: it would find a file that exists already."""
    try:
        arrived = [_text_of(folder / f"arrived-{process}") for process in range(num_processes)]
        if any(each != launch for each in arrived) or not done_rows(folder, total).all():
            return None
        return folder.rename(_finishing(folder))
    except FileNotFoundError:  # another process was faster
        return None


def remove(folder: Path) -> None:
    """Forget an unfinished run."""
    for path in (folder, _finishing(folder)):
        if path.exists():
            shutil.rmtree(path)


def _text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def _finishing(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.finishing")


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    """The complete batches in a file."""
    if os.path.getsize(file) == 0:
        return
    with pa.OSFile(str(file)) as source:
        try:
            yield from pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):  # the end of a file that was being written
            return


class _Stream:
    """Rows of a file, some at a time."""

    def __init__(self, file: Path):
        self._batches = _batches(file)
        self._rest = SCHEMA.empty_table()

    def until(self, stop: int) -> pa.Table:
        """The next rows below `stop`."""
        read = [self._rest]
        while not len(read[-1]) or read[-1].column("row")[-1].as_py() < stop:
            batch = next(self._batches, None)
            if batch is None:
                break
            read.append(pa.Table.from_batches([batch]))
        table = pa.concat_tables(read)
        number = int(np.searchsorted(table.column("row").to_numpy(), stop))
        self._rest = table.slice(number)
        return table.slice(0, number)
