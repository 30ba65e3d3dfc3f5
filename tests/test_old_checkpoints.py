"""Finished checkpoints of earlier versions load, and say what they said then."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_models import sines
from PIL import Image
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, ResNet
from transformers import AutoModelForImageClassification, pipeline

import hf_mlrpl.auto  # noqa: F401  registers the models and the pipeline
from hf_mlrpl.registry import METHODS, load

FOLDER = Path(__file__).parent / "checkpoints"
FAMILIES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@register_model
def eight_channels(pretrained: bool = False, **options) -> ResNet:
    """A ResNet of 15 kB, the backbone of these checkpoints."""
    sizes = {"block": BasicBlock, "layers": (1, 1, 1, 1), "stem_width": 4, "stem_type": "deep", "avg_down": True}
    return build_model_with_cfg(ResNet, "eight_channels", pretrained, channels=(4, 4, 8, 8), **sizes | options)


def photo() -> Image.Image:
    """A picture of 80 by 48 pixels."""
    return Image.fromarray((127.5 + 255 * sines((48, 80, 3), 0.5).numpy()).astype(np.uint8))


def pixels() -> torch.Tensor:
    return 4 * sines((2, 3, 64, 64), 1.0)


def logits_and_tags(folder: Path) -> dict:
    """What a checkpoint says about fixed inputs; in double precision, so that the machine makes no difference."""
    model, info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        logits = model.double().eval()(pixels()).logits
    tagger = pipeline("image-tagging", model=str(folder), device="cpu")
    tags = {kind: tagger(photo(), **options) for kind, options in {"all": {"threshold": 0.0}, "present": {}}.items()}
    return {"logits": logits.tolist()} | {kind: {t["label"]: t["score"] for t in tags[kind]} for kind in tags}


def test_there_is_a_checkpoint_of_every_earlier_type():
    configs = {load(spec.model).config_class for spec in METHODS.values()}
    types = {config.earlier_model_type for config in configs} - {""} | {"mlrpl-baseline"}
    assert {json.loads((FOLDER / family / "config.json").read_text())["model_type"] for family in FAMILIES} == types


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_says_what_it_said_then(family):
    expected = json.loads((FOLDER / family / "expected.json").read_text())
    actual = logits_and_tags(FOLDER / family)
    assert actual["logits"] == [pytest.approx(row, rel=0, abs=1e-6) for row in expected["logits"]]
    for kind in ("all", "present"):
        assert list(actual[kind]) == list(expected[kind])
        assert actual[kind] == pytest.approx(expected[kind], rel=0, abs=1e-5)
