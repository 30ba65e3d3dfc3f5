"""The block "In Python" of the README, run as it stands, but with a tiny network and a single epoch."""

import re
from pathlib import Path

import datasets
import numpy as np
from PIL import Image
from transformers import pipeline

import hf_mlrpl.auto

README = Path(__file__).parents[1] / "README.md"
TINY = (
    'backbone="test_resnet", pretrained=False, image_size=32, feature_pool=1, trainable_backbone=None, attention_dim=8'
    ", representation_dim=16, output_dim=16, word_embedding_dim=8, cooccurrence_dim=8, cooccurrence_hidden_dim=8"
)
SUBSTITUTES = {'backbone="resnet50.tv_in1k"': TINY, '("out")': '("out", num_train_epochs=1, report_to="none")'}


def write_photos_with_labels(folder: Path, names: list[str], count: int = 12) -> None:
    generator = np.random.default_rng(0)
    folder.mkdir()
    rows = [",".join(["file_name", *names])]
    for i in range(count):
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{i}.jpg")
        rows.append(",".join([f"{i}.jpg", *map(str, generator.integers(0, 2, len(names)))]))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def test_the_lines_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names = ["person", "boat", "car"]
    write_photos_with_labels(tmp_path / "photos", names)
    code = re.search(r"## In Python\n\n```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[1]
    assert code.count("\n") <= 10
    for published, tiny in SUBSTITUTES.items():
        assert code.count(published) == 1
        code = code.replace(published, tiny)
    exec(compile(code, "README.md", "exec"), {})

    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert "structured semantic transfer" in (tmp_path / "out" / "README.md").read_text()
    tags = pipeline("image-tagging", model="out")("photos/0.jpg", threshold=0.0)
    assert sorted(tag["label"] for tag in tags) == sorted(names)
    assert hf_mlrpl.auto  # which made the task known
