"""Taggers as ONNX files: the same scores for any batch, and all that a program needs to use them."""

import ast
import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
from PIL import Image
from tiny import MODELS, NETWORKS, tiny_model
from tiny_clip import TINY_VIT

import hf_mlrpl
from hf_mlrpl.cli.main import main
from hf_mlrpl.export.onnx_check import compare
from hf_mlrpl.export.onnx_file import quantize
from hf_mlrpl.models.image_processing import processor_for
from hf_mlrpl.models.modeling_utils import MultiLabelPreTrainedModel
from hf_mlrpl.registry import METHODS, load

NUM_LABELS = 19  # more than a chunk has
SCRIPT = Path(hf_mlrpl.__file__).parent / "export" / "tag_with_onnx.py"
VITS = {
    "partial_bce": {"backbone": "test_vit", "image_size": 160},
    "scpnet": {**TINY_VIT, "resize": "crop", "text_sizes": MODELS["scpnet"]["text_sizes"]},
}


def different_networks() -> list[str]:
    """A method for each way from pixels to logits, those with a ViT first."""
    ways: dict[tuple, str] = {}
    for name in [*VITS, *NETWORKS]:
        network = load(METHODS[name].model)
        ways.setdefault((network.encode, network.represent, network.classify), name)
    return list(ways.values())


class Exported(NamedTuple):
    model: MultiLabelPreTrainedModel
    folder: Path
    file: Path
    output: str


@pytest.fixture(scope="module")
def photos(coco_mini):
    return [str(file) for file in sorted((coco_mini / "images").rglob("*.jpg"))[:8]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, photos):
    """What `hf-mlrpl export` made of the network of a method."""
    made: dict[str, Exported] = {}

    def export(method: str) -> Exported:
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            has_steps = hasattr(load(METHODS[method].model).config_class, "time_steps")
            settings = VITS.get(method) or ({"time_steps": 1} if has_steps else {})  # each takes torch a second
            model = tiny_model(method, num_labels=NUM_LABELS, **settings).eval()
            model.config.thresholds = [0.1, *[0.0] * (NUM_LABELS - 1)]
            model.save_pretrained(folder / "model")
            file, printed = folder / "out" / "tagger.onnx", io.StringIO()
            with contextlib.redirect_stdout(printed):
                assert main(["export", "onnx", str(folder / "model"), str(file), "--photos", *photos]) == 0
            made[method] = Exported(model, folder / "model", file, printed.getvalue())
        return made[method]

    return export


@pytest.mark.parametrize("method", different_networks())
def test_a_file_gives_the_scores_of_the_model_for_any_batch(method, exported):
    model, _, file, output = exported(method)
    found = re.search(
        r"compared on photos, 8 photos: the largest difference is .* of a logit, (\S+) of a score", output
    )
    assert found and float(found[1]) < 2e-5
    assert [path.name for path in file.parent.iterdir()] == ["tagger.onnx"]
    written = onnx.load(file)
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the batch has no fixed size"
    assert not [each.name for each in written.graph.initializer if "text" in each.name], "the text tower is folded"
    metadata = {each.key: each.value for each in written.metadata_props}
    assert json.loads(metadata["labels"]) == [str(i) for i in range(NUM_LABELS)]
    assert json.loads(metadata["thresholds"]) == pytest.approx(model.config.thresholds)


def test_int8_is_smaller_and_nearly_the_same(exported, photos, tmp_path):
    model, _, file, _ = exported("partial_bce")
    small = tmp_path / "small.onnx"
    quantize(file, small)
    before, after = onnx.load(file), onnx.load(small)
    assert "MatMulInteger" in {node.op_type for node in after.graph.node}
    assert small.stat().st_size < file.stat().st_size
    assert {each.key: each.value for each in after.metadata_props} == {e.key: e.value for e in before.metadata_props}
    assert 0 < compare(model, small, processor_for(model.config), photos).scores < 0.05


@pytest.mark.parametrize("method", VITS)  # one stretches a photo, one crops it
def test_onnxruntime_and_pillow_are_enough(method, exported, photos, tmp_path, capsys):
    _, folder, file, _ = exported(method)
    with Image.open(photos[2]) as photo:
        photo.putalpha(Image.linear_gradient("L").resize(photo.size))
        photo.save(tmp_path / "transparent.png")
    files = [*photos[:2], str(tmp_path / "transparent.png")]
    assert main(["tag", str(folder), *files, "--json"]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'hf_mlrpl', 'timm')));"
        f"runpy.run_path({str(SCRIPT)!r})"
    )
    output = subprocess.run([sys.executable, "-c", code, file, *files], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in output.stdout.splitlines())
    assert len(expected) == 3 and all(row["tags"] for row in expected)
    for row in expected:
        scores = ast.literal_eval(found[row["file"]])
        assert scores == pytest.approx({tag["label"]: tag["score"] for tag in row["tags"]}, abs=5e-3)
