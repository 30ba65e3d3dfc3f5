"""Captions with the labels that they name, in the place of training images."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...extras import optional_packages
from ...labels import NEGATIVE, POSITIVE, shorten
from ...settings import check_keys, shown
from ..columns import CAPTION, set_labels
from ..files import read_json
from .caption_files import Caption, read_captions
from .words import LabelFinder

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

Synonyms = Mapping[str, Sequence[str]]
_SHIPPED = Path(__file__).with_name("synonyms")


def load_captions(
    path: str | Path,
    labels: Sequence[str],
    synonyms: Synonyms | str | Path | None = None,
    templates: Sequence[str] = (),
) -> "Dataset":
    """Captions with the labels that they name: such a label is present, all others are absent.

    Words are compared in lower case and in the singular; a name of several words comes before its parts, and may be
    written as one word. Captions that name no label are left out and counted.

    ```
    captions.json     as of COCO, {"annotations": [{"caption": "Two dogs on a couch."}, ...], ...}
    captions.jsonl    one {"caption": "..."} in each line; "labels": ["dog", "couch"] may say what it is about
    captions.txt      one caption in each line
    ```

    Args:
        labels: the label names.
        synonyms: further names, from a label to a list; or a JSON file with that; or "coco" or "voc", which are
            shipped for the labels of these data sets.
        templates: texts with one {} for the name of a label, each of which becomes a caption of every label.

    Returns:
        A data set with the columns `caption`, `labels` and `positives`.
    """
    with optional_packages():
        from datasets import Dataset

    find = LabelFinder(labels, _read_synonyms(synonyms, labels))
    number = {name: label for label, name in enumerate(labels)}
    strangers: Counter[str] = Counter()

    def labels_of(caption: Caption) -> set[int]:
        if caption.labels is None:
            return find(caption.caption)
        strangers.update(name for name in caption.labels if name not in number)
        return {number[name] for name in caption.labels if name in number}

    read = [(caption.caption, labels_of(caption)) for caption in read_captions(Path(path).expanduser())]
    kept = [(text, present) for text, present in read if present]
    _say_left_out(path, len(read), len(kept), strangers)
    kept += [(_filled(template, name), {number[name]}) for template in templates for name in labels]
    matrix = np.full((len(kept), len(labels)), NEGATIVE, dtype=np.int8)
    for row, (_, present) in zip(matrix, kept, strict=True):
        row[list(present)] = POSITIVE
    return set_labels(Dataset.from_dict({CAPTION: [text for text, _ in kept]}), matrix, labels)


def _say_left_out(path: str | Path, num_read: int, num_kept: int, strangers: Counter[str]) -> None:
    if strangers:
        names = [f"{name} ({count})" for name, count in strangers.most_common()]
        logger.warning(
            "%s: %d label(s) are none of the data's and are left out: %s.", path, len(names), shorten(names)
        )
    if not num_kept:
        raise ValueError(
            f"None of the {num_read} captions of {path} names a label of the data, so none is left. Say with "
            "`synonyms` what the labels are called there."
        )
    if num_kept < num_read:
        logger.warning("%d of %d captions name none of the labels and are left out.", num_read - num_kept, num_read)


def _filled(template: str, name: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"Each of `templates` must have one {{}} for the name of a label, got {template!r}.")
    return template.replace("{}", name.replace("_", " "))


def _read_synonyms(source: Synonyms | str | Path | None, labels: Sequence[str]) -> Synonyms:
    """Further names of some of the `labels`."""
    if source is None:
        return {}
    if isinstance(source, Mapping):
        content, where = source, "`synonyms`"
    elif source in (shipped := sorted(file.stem for file in _SHIPPED.glob("*.json"))):
        content = read_json(_SHIPPED / f"{source}.json")
        return {name: content[name] for name in labels if name in content}
    elif not Path(source).expanduser().is_file():
        raise FileNotFoundError(
            f"There are no synonyms {str(source)!r}, neither as a JSON file nor among the shipped ones: "
            f"{', '.join(shipped)}."
        )
    else:
        content, where = read_json(Path(source).expanduser()), str(source)
    if not isinstance(content, Mapping):
        raise ValueError(f'{where} must map labels to lists of names, {{"sofa": ["couch"]}}, got {shown(content)}.')
    check_keys(content, labels, where)
    for name, further in content.items():
        if not isinstance(further, list | tuple) or not all(isinstance(each, str) for each in further):
            raise ValueError(f"{where}: the further names of {name!r} must be a list of texts, got {shown(further)}.")
    return content
