"""Files of captions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ..files import numbered_lines, parse_json
from ..json_files import JsonObject, read_lists


class Caption(JsonObject):
    """A sentence about an image.

    labels: names of those that it is known to be about; `None` where its words say so.
    """

    caption: str
    labels: list[str] | None = None


def read_captions(file: Path) -> Iterator[Caption]:
    """The captions of a file in its order; see `load_captions` for the formats."""
    if file.suffix.lower() not in _READERS:
        raise ValueError(f"A file of captions must end in {', '.join(_READERS)}, got {file}.")
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file of captions {file}. Name it with `data.captions`, such as "
            "`data.captions=/data/coco/annotations/captions_train2014.json`."
        )
    return _READERS[file.suffix.lower()](file)


def _of_coco(file: Path) -> Iterator[Caption]:
    for _, block in read_lists(file, {"annotations": Caption}):
        yield from block


def _of_json_lines(file: Path) -> Iterator[Caption]:
    expected = 'Expected {"caption": "A dog on a sofa."}, with "labels": ["dog", "sofa"] where they are known.'
    for number, line in numbered_lines(file).items():
        content = parse_json(line, f"{file}, line {number}", expected)
        try:
            yield msgspec.convert(content, Caption)
        except msgspec.ValidationError as error:
            raise ValueError(f"{file}, line {number} is no caption: {error}. {expected}") from error


def _of_text(file: Path) -> Iterator[Caption]:
    return map(Caption, numbered_lines(file).values())


_READERS: dict[str, Callable[[Path], Iterator[Caption]]] = {
    ".json": _of_coco,
    ".jsonl": _of_json_lines,
    ".txt": _of_text,
}
