"""Data as they were read, written for others: one clean table, or a folder with the photos, ready for the Hub."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..labels import NEGATIVE, UNKNOWN, LabelSummary, shorten, summarize_labels
from ..settings import as_setting
from .columns import FULL_LABELS, IMAGE, IMAGE_ID, keep_columns, label_matrix, label_names
from .tables.roles import IMAGE_COLUMNS, NEGATIVE_COLUMN, POSITIVE_COLUMNS, SPLIT, is_hardly_label

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

TAKEN = (*IMAGE_COLUMNS, IMAGE_ID, SPLIT, *POSITIVE_COLUMNS, NEGATIVE_COLUMN)
ROWS = 1000  # photos that are in memory at a time
BYTES = 500 << 20  # of a Parquet file


def write_table(splits: Mapping[str, "Dataset"], file: Path) -> None:
    """Write one Parquet table: the path of each photo, its id and split, and a column for each label.

    1 is present, 0 absent and nothing unknown, which `load_table` reads without a setting. Paths are relative to the
    table, where the photos lie below its folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = label_names(next(iter(splits.values())))
    wrong = [name for name in names if name.lower() in TAKEN or is_hardly_label(name)]
    if wrong:
        raise ValueError(
            f"A table cannot have columns for the labels {shorten(wrong)}: such names stand for other things. Give "
            f"them others, {as_setting('rename', {wrong[0]: '...'})}, or write a folder."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.concat_tables([_table(split, of_split, names, file) for split, of_split in splits.items()]), file
    )


def _table(split: str, dataset: "Dataset", names: list[str], file: Path) -> "pa.Table":
    import pyarrow as pa

    stored = dataset.select_columns([IMAGE, IMAGE_ID]).with_format("arrow")[:]
    paths = stored.column(IMAGE).combine_chunks().field("path").to_pylist()
    if any(path is None or not os.path.isfile(path) for path in paths):
        raise ValueError("A table names photos by their files, but some are in the data set itself. Write a folder.")
    labels = label_matrix(dataset)
    columns = {IMAGE: [_relative(path, file.absolute().parent) for path in paths]}
    columns |= {IMAGE_ID: stored.column(IMAGE_ID), SPLIT: [split] * len(dataset)}
    for i, name in enumerate(names):
        values = labels[:, i]
        columns[name] = pa.array(np.where(values == NEGATIVE, 0, values), mask=values == UNKNOWN)
    return pa.table(columns)


def _relative(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def write_folder(splits: Mapping[str, "Dataset"], folder: Path, hidden: str) -> None:
    """Write a folder that `datasets.load_dataset` reads, with all photos in it, and a card.

    Labels that a protocol has hidden are not in it.

    Args:
        hidden: what happened to labels, for the card, such as "random_known, proportion 0.1, seed 0".
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"The folder {folder} exists and is not empty. Name a new one.")
    (folder / "data").mkdir(parents=True)
    for split, dataset in splits.items():
        kept = keep_columns(dataset, [name for name in dataset.column_names if name != FULL_LABELS])
        _write_photos(kept, folder / "data", split)
    summaries = {split: summarize_labels(label_matrix(of), label_names(of)) for split, of in splits.items()}
    (folder / "README.md").write_text(_card(summaries, hidden), encoding="utf-8")


def _write_photos(dataset: "Dataset", folder: Path, split: str) -> None:
    import pyarrow.parquet as pq
    from datasets.table import embed_table_storage
    from datasets.utils import tqdm

    writer, number, size = None, 0, 0
    batches = dataset.with_format("arrow").iter(ROWS)
    for batch in tqdm(
        batches, total=-(-len(dataset) // ROWS), delay=1, desc=f"{split}, in {ROWS} photos", leave=False
    ):
        table = embed_table_storage(batch).replace_schema_metadata(dataset.features.arrow_schema.metadata)
        if writer is None or size > BYTES:
            if writer is not None:
                writer.close()
            writer = pq.ParquetWriter(folder / f"{split}-{number:05d}.parquet", table.schema)
            number, size = number + 1, 0
        writer.write_table(table)
        size += table.nbytes
    if writer is not None:
        writer.close()


def _card(summaries: Mapping[str, LabelSummary], hidden: str) -> str:
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in summaries)
    images = sum(summary.num_images for summary in summaries.values())
    first = next(iter(summaries.values()))
    parts = "\n".join(
        f"| {split} | {summary.num_images:,} | {1 - summary.known_proportion:.1%} | {summary.unlabelled_images:,} |"
        for split, summary in summaries.items()
    )
    rows = "\n".join(
        f"| {name} | " + " | ".join(_counts(summary, i) for summary in summaries.values()) + " |"
        for i, name in enumerate(first.names)
    )
    return f"""---
task_categories:
- image-classification
tags:
- multi-label
- partial-labels
configs:
- config_name: default
  data_files:
{files}---

# {images:,} photos with {len(first.names)} labels

Labels are -1 (known to be absent), 0 (unknown) or 1 (known to be present). Hidden labels: {hidden}.

| split | photos | unknown labels | photos without a known label |
|---|---|---|---|
{parts}

```python
from datasets import load_dataset

photos = load_dataset("the folder, or its name on the Hub", split="{next(iter(summaries))}")
photos.features["positives"].feature.names  # the labels, in the order of the column `labels`
```

| column | content |
|---|---|
| `image` | the photo |
| `image_id` | its name, unique |
| `labels` | one number per label |
| `positives` | the labels that are known to be present |

## Labels

Present, absent and unknown in {", ".join(summaries)}:

| label | {" | ".join(summaries)} |
|---|{"---|" * len(summaries)}
{rows}
"""


def _counts(summary: LabelSummary, label: int) -> str:
    counts = (summary.present[label], summary.absent[label], summary.unknown[label])
    return " / ".join(f"{count:,}" for count in counts)
