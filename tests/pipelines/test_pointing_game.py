"""The pointing game of a model on photos with boxes."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_model

from hf_mlrpl.data.columns import make_dataset, with_objects
from hf_mlrpl.pipelines.pointing import measure_pointing


def photo(orientation: int) -> bytes:
    image, file = Image.new("RGB", (30, 20)), io.BytesIO()
    image.getexif()[0x0112] = orientation
    image.save(file, "JPEG", exif=image.getexif())
    return file.getvalue()


@pytest.mark.parametrize("orientation, size", [(1, (20, 30)), (6, (30, 20)), (1, None)])
def test_boxes_belong_to_the_upright_photo(orientation, size):
    dataset = make_dataset([photo(orientation)], ["a"], np.ones((1, 5), np.int8), list("01234"))
    everywhere = [[("2", (0, 0, 30, 30))]]
    assert measure_pointing(tiny_model("ssgrl"), with_objects(dataset, everywhere, [size]))["pointing"] == 100
    other = with_objects(dataset, everywhere, [(31, 30)])
    with pytest.raises(ValueError, match="boxes of the photo a were drawn in one of 30x31 pixels, but it has"):
        measure_pointing(tiny_model("ssgrl"), other)
