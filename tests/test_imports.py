"""What is imported when, each in a fresh interpreter."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image
from tiny import tiny_model

from hf_mlrpl.data.collections.digit_scenes import load_digit_scenes

HEAVY = ("torch", "transformers", "datasets", "evaluate", "sklearn", "matplotlib", "timm", "numpy", "torchvision")
TRAIN_SCRIPT = Path(__file__).parents[1] / "training" / "train.py"
OPTIONAL = ("datasets", "evaluate", "sklearn", "matplotlib")


def fresh(code: str, environment: dict[str, str] | None = None) -> str:
    """Standard output of `code` in an interpreter of its own."""
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


def test_nothing_heavy_is_imported_before_it_is_used():
    """Neither by the package, nor by the help of a command."""
    code = f"""
import sys

def loaded():
    return [name for name in {HEAVY} if name in sys.modules]

seen = dict()
import hf_mlrpl
dir(hf_mlrpl)
seen["package"] = loaded()
import hf_mlrpl.registry
seen["registry"] = loaded()
from hf_mlrpl.cli.main import COMMANDS, main, parse_arguments
parse_arguments(["list"])
seen["arguments"] = loaded()
for command in COMMANDS:
    try:
        main([command, "--help"])
    except SystemExit:
        seen[command] = loaded()
print()
print(dict((what, names) for what, names in seen.items() if names), len(seen) - len(COMMANDS))
"""
    assert fresh(code).splitlines()[-1] == "{} 3", "what has imported what, the first place is the culprit"


@pytest.mark.slow
def test_models_objectives_trainer_tagging_and_publishing_do_with_the_core_install(tmp_path):
    """Without any package of an extra, but filelock, which is in the core install, too; pictures need matplotlib."""
    Image.new("RGB", (40, 30), "green").save(tmp_path / "photo.png")
    tiny_model("sst").save_pretrained(tmp_path / "run")
    code = f"""
import sys
from hf_mlrpl.extras import EXTRAS
missing = {{name for names in EXTRAS.values() for name in names}} - {{"filelock"}}
for name in missing | {{"matplotlib"}}:
    sys.modules[name] = None  # importing it raises an ImportError
import numpy, torch
from hf_mlrpl import SstConfig, SstForMultiLabelClassification, SstObjective, multi_label_metrics
from hf_mlrpl.methods.sst.objective_sst import SstObjectiveConfig
from hf_mlrpl.schedules import Progress
import hf_mlrpl.losses, hf_mlrpl.trainer.trainer, hf_mlrpl.recipe.document, hf_mlrpl.auto
import hf_mlrpl.data.images.torch_dataset
config = SstConfig(backbone="test_resnet", image_size=32, feature_pool=1, num_labels=3, label_embeddings="orthogonal")
model = SstForMultiLabelClassification(config)
model.set_priors(numpy.array([[1, -1, 0], [0, 1, 1]]))
batch = dict(pixel_values=torch.randn(2, 3, 32, 32), labels=torch.tensor([[1, -1, 0], [0, 1, 1]]))
loss = model(**batch, objective=SstObjective(SstObjectiveConfig(), config), progress=Progress(0, 1, 9.0)).loss
logits = model(batch["pixel_values"]).logits.detach().numpy()
print(loss.isfinite().item(), "map" in multi_label_metrics(logits, batch["labels"].numpy()))

del sys.modules["matplotlib"]
from hf_mlrpl.cli.main import main
tag = ["tag", "{tmp_path}/run", "{tmp_path}/photo.png"]
done = [main([*tag, "--pictures", "{tmp_path}/out"]), main([*tag, "--out", "{tmp_path}/tags.parquet"])]
print(done, main(["push", "{tmp_path}/run", "user/model", "--dry-run"]))
"""
    printed = fresh(code).splitlines()
    assert printed[0] == "True True" and printed[-1] == "[0, 0] 0"
    assert (tmp_path / "tags.parquet").is_file() and (tmp_path / "out" / "photo_tags.png").is_file()


@pytest.mark.slow
def test_metrics_and_kept_digit_scenes_import_little():
    """Scikit-learn takes as long as a sixth of the start of a training."""
    load_digit_scenes("test")  # draws and keeps them
    code = f"""
import sys
import hf_mlrpl.metrics
print([name for name in {OPTIONAL} if name in sys.modules])
from hf_mlrpl.data.collections.digit_scenes import load_digit_scenes
load_digit_scenes("test")
print("sklearn.base" in sys.modules)
"""
    environment = os.environ | {"HF_ASSETS_CACHE": constants.HF_ASSETS_CACHE}
    assert fresh(code, environment).splitlines() == ["[]", "False"]


@pytest.mark.parametrize(("users", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_politely_unless_the_environment_says_otherwise(users, expected):
    code = """
import os, sys
import hf_mlrpl.cli.main
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | users
    assert fresh(code, environment).split() == [expected, "False"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc")
@pytest.mark.parametrize(("users", "is_kept"), [({}, True), ({"MALLOC_ARENA_MAX": "2"}, False)])
def test_freed_memory_is_kept_unless_the_environment_says_how(users, is_kept):
    code = """
import resource
from hf_mlrpl.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(1 << 26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | users
    assert (int(fresh(code, environment)) < 10) == is_kept


def test_the_package_is_the_command():
    for arguments in (["-m", "hf_mlrpl"], [str(TRAIN_SCRIPT)]):
        process = subprocess.run([sys.executable, *arguments, "--help"], capture_output=True, text=True, timeout=60)
        assert process.returncode == 0 and "hf-mlrpl train" in process.stdout
