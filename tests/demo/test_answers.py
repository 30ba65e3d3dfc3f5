"""What a visitor of the demo gets, and what is refused."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from hf_mlrpl.demo.answers import (
    MAX_PHOTOS,
    MOST_MAPS,
    Answerer,
    Fault,
    RefusedError,
    bounds_of,
    open_upload,
    without_folders,
)
from hf_mlrpl.pipelines.image_tagging import ImageTaggingPipeline


@pytest.fixture
def uploads(tmp_path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (700, 900, 3), np.uint8)).save(folder / name)
    return folder.resolve()


def answerer(uploads: Path, method: str = "sst", **settings) -> Answerer:
    return Answerer(ImageTaggingPipeline(model=tiny_model(method, **settings).eval()), uploads)


def png(width: int, height: int) -> bytes:
    """A black image that is small as a file."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_labels_and_pictures_follow_the_threshold(uploads):
    answers = answerer(uploads).answer([str(uploads / "a.png"), str(uploads / "b.jpg")])
    assert [answer.name for answer in answers] == ["a.png", "b.jpg"]
    answer = answers[0]
    scores = [tag["score"] for tag in answer.tags]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True) and max(answer.photo.size) == 640
    middle = (scores[1] + scores[2]) / 2
    assert len(answer.found(middle)) == 2 and len(answer.attention(middle)) == 2 <= MOST_MAPS
    picture, caption = answer.attention(0.0)[0]
    assert picture.size == answer.photo.size and caption == f"{answer.tags[0]['label']} {scores[0]:.2f}"


def test_thresholds_of_the_model_are_those_of_each_label(uploads):
    served = answerer(uploads)
    served.tagger.model.config.thresholds = [0.0, 1.0, 1.0, 0.0, 1.0]
    answer = served.answer([str(uploads / "a.png")])[0]
    assert {tag["label"] for tag in answer.found(None)} == {"0", "3"}
    assert bounds_of(served.tagger.model.config.thresholds) == (0.0, 1.0)


def test_a_model_without_attention_has_no_pictures(uploads):
    served = answerer(uploads, "asl")
    answer = served.answer([str(uploads / "a.png")])[0]
    assert not served.has_attention and not served.takes_labels and answer.attention(0.0) == []


def test_own_labels_leave_the_model_of_others_as_it_is(uploads):
    served, file = answerer(uploads, "scpnet"), str(uploads / "a.png")
    before = served.answer([file])[0].tags
    assert served.takes_labels
    own = served.answer([file], "zebra , traffic light,")[0]
    assert {tag["label"] for tag in own.tags} == {"zebra", "traffic light"}
    again = served.answer([file], "cat, zebra")[0]
    assert {tag["label"] for tag in again.tags} == {"zebra", "cat"}
    assert served.answer([file])[0].tags == before
    own_weights = {id(parameter) for parameter in served.tagger.model.parameters()}
    assert {id(parameter) for parameter in served._asked[0].model.parameters()} <= own_weights, "not kept twice"
    with pytest.raises(RefusedError, match="read alike"):
        served.answer([file], "cat, Cat")
    assert torch.is_tensor(next(served.tagger.model.parameters()))


def test_labels_that_the_model_cannot_be_asked_for(uploads):
    with pytest.raises(RefusedError, match="cannot change"):
        answerer(uploads).answer([str(uploads / "a.png")], "zebra")
    for words in (",".join(map(str, range(201))), "x" * 101):
        with pytest.raises(RefusedError, match="at most 200 labels"):
            answerer(uploads, "scpnet").answer([str(uploads / "a.png")], words)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/anna/vectors/glove.txt has no vector for 'x'.", "glove.txt has no vector for 'x'."),
        ("the path '/srv/a.txt', which is no file", "the path 'a.txt', which is no file"),
        (r"C:\Users\anna\glove.txt, line 3", "glove.txt, line 3"),
        ("labels such as cat/dog or 1/2 stay", "labels such as cat/dog or 1/2 stay"),
    ],
)
def test_visitors_see_no_folders(text, shown):
    assert without_folders(text) == shown


def test_too_many_photos(uploads):
    with pytest.raises(RefusedError, match=f"at most {MAX_PHOTOS} photos"):
        answerer(uploads).answer([str(uploads / "a.png")] * (MAX_PHOTOS + 1))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("bomb.png", png(40_000, 30_000), "pixels"),
        ("wide.png", png(8_000, 8_000), "has 64 million pixels"),
        ("text.png", b"no image", "no photo"),
        ("empty.png", b"", "no photo"),
        ("cut.png", png(64, 64)[:50], "cannot be read|no photo"),
        ("postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no photo"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no photo"),
        ("large.png", bytes(20_000_001), "at most 20 MB"),
    ],
)
def test_files_that_are_no_photos_are_left_out_and_the_others_go_on(name, content, fault, uploads):
    (uploads / name).write_bytes(content)
    with pytest.raises(RefusedError, match=fault) as error:
        open_upload(uploads / name, uploads)
    assert name in str(error.value) and str(uploads) not in str(error.value)


def test_a_bad_photo_does_not_keep_the_others_from_their_answers(uploads):
    (uploads / "bad.png").write_bytes(b"no image")
    bad, good = answerer(uploads).answer([str(uploads / "bad.png"), str(uploads / "a.png")])
    assert isinstance(bad, Fault) and "bad.png" in bad.text and len(good.tags) == 5


def test_only_uploaded_files_are_opened(uploads, tmp_path):
    """A request may name any path; Gradio looks only at those that are marked as files."""
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    os.symlink(tmp_path / "private.png", uploads / "link.png")
    for place in (tmp_path / "private.png", uploads / "link.png", uploads / ".." / "private.png", uploads):
        with pytest.raises(RefusedError, match="was not uploaded"):
            open_upload(place, uploads)
