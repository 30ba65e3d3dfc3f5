"""`hf-mlrpl export`: what it says, and what it refuses."""

import sys

import pytest
from tiny import tiny_model

from hf_mlrpl.cli.main import main
from hf_mlrpl.export import onnx_check, onnx_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model("partial_bce").save_pretrained(folder)
    return str(folder)


def export(checkpoint, out, *options):
    return main(["export", "onnx", checkpoint, str(out), *map(str, options)])


def test_a_file_that_gives_other_scores_is_an_error(checkpoint, tmp_path, monkeypatch, capsys):
    differs = onnx_check.Comparison(num_photos=4, logits=9.0, scores=0.5, changed=3, num_tags=7)
    monkeypatch.setattr(onnx_file, "export_onnx", lambda model, file, *_, **options: file.touch())
    monkeypatch.setattr(onnx_check, "compare", lambda *_: differs)
    out = tmp_path / "deep" / "tagger.onnx"
    assert export(checkpoint, out) == 2 and not list(out.parent.iterdir())
    output = capsys.readouterr()
    assert "compared on noise (--photos names real ones), 4 photos: the largest difference is 9.0e+00" in output.out
    assert "gives other scores than the model" in output.err
    assert export(checkpoint, out, "--int8") == 0, "which is expected to be different"
    assert export(checkpoint, out) == 2
    assert "exists already. Give another name, or --overwrite" in capsys.readouterr().err
    out.write_text("an earlier one")
    assert export(checkpoint, out, "--overwrite") == 2 and out.read_text() == "an earlier one"


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("tagger.pb", [], "ends in .onnx"),
        ("tagger.onnx", ["--opset", 7], "`opset` must lie between 18 and"),
        ("tagger.onnx", ["--photos", "gone.jpg"], "no file or folder `gone.jpg`"),
        ("tagger.onnx", ["--labels", "zebra"], "cannot change"),
    ],
)
def test_wrong_options_are_explained(checkpoint, tmp_path, capsys, name, options, message):
    assert export(checkpoint, tmp_path / name, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_the_way_to_get_them(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export(checkpoint, tmp_path / "tagger.onnx") == 2
    assert 'pip install "hf-mlrpl[onnx]"' in capsys.readouterr().err
