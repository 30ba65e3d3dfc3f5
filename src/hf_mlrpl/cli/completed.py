"""Labels that a method has completed in training, kept in the folder of the run for `hf-mlrpl review`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

    from ..objective import Objective

COMPLETED_NAME = "completed_labels.parquet"
NAMES = b"label_names"


def save_completed_labels(folder: Path, dataset: "Dataset", objective: "Objective") -> None:
    """Write what `objective` has completed and remembers of the images of `dataset`, where it does."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from ..data.columns import image_files, label_matrix, label_names

    (folder / COMPLETED_NAME).unlink(missing_ok=True)
    completed = objective.completed_labels(torch.from_numpy(label_matrix(dataset).copy()))
    if completed is None:
        return
    labels = completed.labels.cpu().numpy().astype(np.int8)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel()), labels.shape[1])
    table = pa.table({"image": image_files(dataset), "labels": lists})
    names = json.dumps(label_names(dataset)).encode()
    pq.write_table(table.replace_schema_metadata({NAMES: names}), folder / COMPLETED_NAME)


def completed_labels(folder: Path, files: list[str], names: list[str]) -> np.ndarray | None:
    """What the method of a run decided, `(num_images, num_labels)` in {-1, 0, +1}, 0 for images that it has not seen.

    `None` where it remembers nothing of these labels.
    """
    import pyarrow.parquet as pq

    stored = folder / COMPLETED_NAME
    if not stored.is_file():
        return None
    table = pq.read_table(stored)
    if json.loads(table.schema.metadata[NAMES]) != names:
        return None
    row_of = {file: row for row, file in enumerate(table.column("image").to_pylist())}
    labels = table.column("labels").combine_chunks().flatten().to_numpy().reshape(-1, len(names))
    rows = np.array([row_of.get(file, -1) for file in files])
    return np.where(rows[:, None] >= 0, labels[rows], 0)
