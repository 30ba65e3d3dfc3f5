"""The page as the folder of a Space."""

import pytest
import transformers
from hub_server import USER
from huggingface_hub import SpaceCard
from tiny import tiny_model

import hf_mlrpl
from hf_mlrpl.cli.main import main
from hf_mlrpl.demo.space import FILES, write_space

NAME = f"{USER}/my-tagger"


@pytest.mark.parametrize("dry", [True, False])
def test_push_writes_it(online, tmp_path, capsys, dry):
    tiny_model("sst").save_pretrained(tmp_path / "run")
    space = tmp_path / "space"
    command = ["push", str(tmp_path / "run"), NAME, "--license", "mit", "--space", str(space)]
    assert main([*command, "--dry-run"] if dry else command) == 0
    if dry:
        assert not space.exists()
        return
    assert sorted(path.name for path in space.iterdir()) == sorted(FILES)
    assert f"hf upload {NAME} {space} . --type space" in capsys.readouterr().out
    data = SpaceCard.load(space / "README.md").data
    assert data.sdk == "gradio" and data.models == [NAME] and data.license == "mit" and data.app_file == "app.py"


def test_its_code_serves_the_model_of_the_hub(tmp_path, monkeypatch):
    write_space(tmp_path / "space", NAME)
    seen = []
    monkeypatch.setattr(transformers, "pipeline", lambda task, model: (task, model))
    monkeypatch.setattr(hf_mlrpl, "launch_demo", lambda *args, **options: seen.append((*args, options)), raising=False)
    exec((tmp_path / "space" / "app.py").read_text(), {})
    assert seen == [(("image-tagging", NAME), {"name": NAME, "host": "0.0.0.0"})]
    requirement = (tmp_path / "space" / "requirements.txt").read_text().strip()
    assert requirement == f"hf-mlrpl[demo]=={hf_mlrpl.__version__}"


def test_other_files_are_not_mixed_with_it(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="has other files"):
        write_space(tmp_path / "space", NAME)
