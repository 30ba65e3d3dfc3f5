"""Tags of very many photos in a file: any number of processes, and going on after a kill."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ..data.images.listing import PhotoList
from ..data.images.photos import BadImageError
from ..distributed import launch_name, launched_processes, state_digest
from ..faults import writing
from .bulk_batches import Batch, OpenedPhotos, Scorer, make_loader
from .image_tagging import ImageTaggingPipeline, Thresholds
from .tag_files import check_suffix, write_tags
from .tag_journal import Journal, claim, done_rows, in_order, remove

MOST_SHOWN = 20  # bad photos
BLOCK = 256  # photos that one process takes in its turn; those that stand together in a data set are read together
_LOG_INTERVAL = 30.0  # seconds between two lines about the progress where nobody watches


@dataclass
class TaggedPhotos:
    """What a finished run has written.

    bad: names and faults of the first photos that could not be read; `num_bad` counts all of them.
    """

    file: Path
    total: int
    num_bad: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)

    def count(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same `tables`, while their bad photos are counted."""
        for table in tables:
            bad = table.filter(table.column("error").is_valid())
            self.num_bad += len(bad)
            self.bad += [(row["file"], row["error"]) for row in bad.slice(0, MOST_SHOWN - len(self.bad)).to_pylist()]
            yield table


def tag_to_file(
    tagger: ImageTaggingPipeline,
    photos: PhotoList,
    file: Path,
    *,
    threshold: Thresholds | None = None,
    top_k: int | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    on_bad_image: Literal["error", "skip"] = "skip",
    draft: bool = False,
    overwrite: bool = False,
) -> TaggedPhotos | None:
    """Tag `photos` and write the tags, see `tag_files.write_tags`.

    Until all are done, results lie in a folder beside `file`, `.FILE.unfinished`, and the same call goes on with them.
    Under `accelerate launch` or `torchrun` each process tags a part of the photos; the last one to be ready puts the
    results together.

    Args:
        file: ends in .parquet, .jsonl or .csv.
        threshold, top_k: see `ImageTaggingPipeline`.
        num_workers: processes that open photos, beside each process; by default `default_workers`.
        dtype: of the forward pass; by default bfloat16 on GPUs that have it, float32 elsewhere.
        on_bad_image: "skip" gives a photo that cannot be read an `error` in the file; "error" stops at it.
        draft: decode large JPEG photos at a part of their size: faster, and a little different.
        overwrite: replace `file` once all photos are tagged, and forget an unfinished run.

    Returns:
        `None` where another process puts the results together.

    Raises:
        FileExistsError: if there is `file` already.
        ValueError: if an unfinished run had other settings, or scores are no numbers.
    """
    suffix, folder, total = check_suffix(file), file.with_name(f".{file.name}.unfinished"), len(photos)
    process, num_processes = launched_processes()
    _make_room(file, folder, overwrite, num_processes)
    thresholds, top_k = tagger.chosen_by(threshold, top_k)
    scorer = Scorer(tagger, dtype)
    settings = {
        "model": state_digest(tagger.model.state_dict()),
        "labels": tagger.model.config.label_names,
        "preprocessing": tagger.image_processor.to_json_string(),
        "photos": photos.digest(),
        "threshold": thresholds.tolist(),
        "top_k": top_k,
        "dtype": scorer.dtype,
        "draft": draft,
    }
    launch = launch_name()
    with Journal(folder, settings, process, launch) as journal:
        rows = _own_rows(total, process, num_processes)
        done = done_rows(folder, total)[rows]
        opened = OpenedPhotos(photos, tagger.image_processor, draft)
        loader = make_loader(opened, rows[~done], batch_size, num_workers, scorer.device)
        with _progress(len(rows), int(done.sum()), process, num_processes) as bar:
            for batch in scorer(loader):
                if batch["faults"] and on_bad_image == "error":
                    raise BadImageError(next(iter(batch["faults"].values()))[1])
                journal.write(_columns(batch, thresholds.numpy(), top_k))
                bar.update(len(batch["rows"]))
    finished = claim(folder, total, num_processes, launch)
    if finished is None:
        return None
    result = TaggedPhotos(file, total)
    tables = result.count(in_order(finished, total))
    with writing(file):
        write_tags(tables, tagger.model.config.label_names, finished / file.name, suffix)
    os.replace(finished / file.name, file)
    remove(folder)
    return result


def _make_room(file: Path, folder: Path, overwrite: bool, num_processes: int) -> None:
    if not overwrite:
        if file.exists() and not folder.exists():  # else this goes on with what was to replace it
            raise FileExistsError(f"{file} exists already. Give another name, or --overwrite to replace it.")
        file.parent.mkdir(parents=True, exist_ok=True)
        return
    if num_processes > 1 and (file.exists() or folder.exists()):
        raise ValueError(
            f"--overwrite needs a single process, for others may have begun. Remove {file} and {folder} yourself."
        )
    remove(folder)


def _own_rows(total: int, process: int, num_processes: int) -> np.ndarray:
    """Rows of one of several processes, in turns of `BLOCK`; whatever is done already, so that nobody need ask."""
    rows = np.arange(total)
    return rows[rows // BLOCK % num_processes == process]


def _columns(batch: Batch, thresholds: np.ndarray, top_k: int | None) -> dict[str, Any]:
    """The results of a batch as the columns of `tag_journal.SCHEMA`."""
    photos, labels, scores = chosen_labels(batch["scores"], thresholds, top_k)
    faults, size = batch["faults"], len(batch["rows"])
    is_good = np.array([position not in faults for position in range(size)])
    counts = np.zeros(size, np.int64)
    counts[is_good] = np.bincount(photos, minlength=len(batch["scores"]))
    offsets = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
    return {
        "row": pa.array(batch["rows"], pa.int64()),
        "file": batch["names"],
        "labels": pa.ListArray.from_arrays(offsets, pa.array(labels, pa.int32())),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(scores, pa.float32())),
        "error": pa.array(
            [faults[position][0] if position in faults else None for position in range(size)], pa.string()
        ),
    }


def chosen_labels(
    scores: np.ndarray, thresholds: np.ndarray, top_k: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels whose score reaches the threshold, of each photo the surest first, and `top_k` of them at most.

    Args:
        scores: `(num_photos, num_labels)`.
        thresholds: `(num_labels,)`.

    Returns:
        The row, the label and the score of each, `(num_chosen,)`, by ascending rows.
    """
    photos, labels = np.nonzero(scores >= thresholds)
    chosen = scores[photos, labels]
    order = np.lexsort((labels, -chosen, photos))
    photos, labels, chosen = photos[order], labels[order], chosen[order]
    if top_k is not None:
        first = np.searchsorted(photos, np.arange(len(scores)))
        kept = np.arange(len(photos)) - first[photos] < top_k
        photos, labels, chosen = photos[kept], labels[kept], chosen[kept]
    return photos, labels, chosen


def _progress(total: int, done: int, process: int, num_processes: int) -> tqdm:
    interval = 0.1 if sys.stderr.isatty() else _LOG_INTERVAL
    return tqdm(
        total=total,
        initial=done,
        unit=" photos",
        desc=f"process 1 of {num_processes}" if num_processes > 1 else None,
        mininterval=interval,
        maxinterval=max(10, interval),
        disable=process > 0,
    )
