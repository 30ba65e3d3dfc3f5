"""PASCAL VOC 2007 and 2012."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..columns import IMAGE_ID, check_split, with_objects
from ..containers.voc_xml import VocImage, read_image
from ..files import packaged_label_names, read_lines
from ..rows import Photo, load_photos, split_photos

if TYPE_CHECKING:
    from datasets import Dataset

# The test labels of 2012 are not public, so its validation images are what papers test on.
FILE_SPLITS = {"2007": {"train": "trainval", "test": "test"}, "2012": {"train": "train", "test": "val"}}


def load_voc(
    path: str | Path,
    split: str = "train",
    year: str | int = "2007",
    difficult: str = "absent",
    missing: str = "error",
    boxes: bool = False,
) -> "Dataset":
    """The photos of a VOC split with one label per class, in alphabetical order.

    A label is present if at least one object of the class is not marked 'difficult', and absent otherwise: an image
    with nothing but difficult objects has every label absent. The rule of the public SSGRL, SST and DualCoOp code.

    ```
    path/VOC2007/ImageSets/Main/trainval.txt      image ids, one per line
    path/VOC2007/Annotations/000005.xml
    path/VOC2007/JPEGImages/000005.jpg
    ```

    Args:
        path: the devkit folder, or its VOC2007 (VOC2012) folder.
        split: "train" is trainval of 2007 and train of 2012; "test" is test of 2007 and val of 2012.
        difficult: what a label is that is shown by difficult objects only: "absent", "unknown" or "present".
        missing: what to do about photos that do not exist: "error", or "skip" leaves them out and counts them.
        boxes: add the column `objects` with the boxes of all objects, difficult ones too.
    """
    year = str(year)
    if year not in FILE_SPLITS:
        raise ValueError(f"`year` must be one of {', '.join(FILE_SPLITS)}, got {year!r}.")
    folder = _year_folder(Path(path).expanduser().absolute(), year)
    lists = {name: folder / "ImageSets" / "Main" / f"{part}.txt" for name, part in FILE_SPLITS[year].items()}
    existing = [name for name, file in lists.items() if file.is_file()]
    if not existing:
        raise FileNotFoundError(f"The VOC image list {lists.get(split, lists['train'])} does not exist.")
    check_split(split, existing, folder)

    image_ids = read_lines(lists[split])
    if not image_ids:
        raise ValueError(f"{lists[split]} names no image.")
    names = packaged_label_names("voc")
    images = [_read(folder / "Annotations" / f"{image_id}.xml", names) for image_id in image_ids]
    photos = [_photo(image_id, image, difficult) for image_id, image in zip(image_ids, images, strict=True)]
    rows = split_photos(photos, str(lists[split]), [folder / "JPEGImages"], names)["train"]
    dataset = load_photos(rows.resolved("absent"), missing)
    if not boxes:
        return dataset
    by_id = dict(zip(image_ids, images, strict=True))
    kept = [by_id[image_id] for image_id in dataset[IMAGE_ID]]
    return with_objects(dataset, [image.boxes for image in kept], [image.size for image in kept])


def _year_folder(path: Path, year: str) -> Path:
    candidates = [path, path / f"VOC{year}", path / "VOCdevkit" / f"VOC{year}"]
    for folder in candidates:
        if (folder / "ImageSets").is_dir():
            return folder
    raise FileNotFoundError(
        f"There is no VOC {year} in {path}: none of {', '.join(str(folder) for folder in candidates)} has a folder "
        "ImageSets."
    )


def _read(file: Path, names: list[str]) -> VocImage:
    image = read_image(file)
    for name, _ in image.objects:
        if name not in names:
            raise ValueError(f"{file} has an object of the unknown class {name!r}. Classes: {', '.join(names)}.")
    return image


def _photo(image_id: str, image: VocImage, difficult: str) -> Photo:
    present, absent, unknown = image.listed(difficult)
    return Photo(file=f"{image_id}.jpg", image_id=image_id, present=present, absent=absent, unknown=unknown)
