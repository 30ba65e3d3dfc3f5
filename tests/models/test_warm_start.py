"""Going on from a finished tagger: what is taken over, what is new, and that it is said."""

import json
import shutil

import pytest
import torch
from hub_server import USER
from safetensors.torch import load_file, save_file
from tiny import tiny_content, tiny_recipe

from hf_mlrpl.cli.main import main
from hf_mlrpl.models.warm_start import label_axes
from hf_mlrpl.registry import METHODS

NETWORKS = sorted({spec.model: method for method, spec in METHODS.items()}.values())
LABELS = ["dog", "cat", "car", "boat"]


def new_model(method, names=LABELS, **settings):
    """As `train` makes it, with weights drawn anew each time."""
    part = tiny_recipe(method, model=settings).model
    labels = torch.randint(-1, 2, (20, len(names)), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    return part.build(part.config(names), labels.numpy()).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a tagger of a method; its weights are unlike those of a new one."""
    folders = {}

    def save(method):
        if method not in folders:
            torch.manual_seed(1)
            model = new_model(method)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
            folders[method] = tmp_path_factory.mktemp(method)
            model.save_pretrained(folders[method])
        return folders[method]

    return save


@pytest.mark.parametrize("method", NETWORKS)
def test_the_same_labels_go_on_where_the_tagger_ended(method, saved):
    torch.manual_seed(2)
    old = load_file(saved(method) / "model.safetensors")
    model = new_model(method, pretrained=str(saved(method)))
    new = {name: tensor for name, tensor in model.state_dict().items() if name in dict(model.named_parameters())}
    assert new.keys() <= old.keys() and all(torch.equal(tensor, old[name]) for name, tensor in new.items())
    assert model.warm_start.new == [] and model.warm_start.new_labels == model.warm_start.left_labels == []
    assert model.warm_start.kept_labels == LABELS
    assert {*model.warm_start.loaded, *model.warm_start.by_label} >= new.keys()


@pytest.mark.parametrize("method", NETWORKS)
def test_labels_with_the_same_name_keep_their_part_and_others_are_new(method, saved):
    names = ["boat", "bus", "dog"]
    torch.manual_seed(3)
    fresh = new_model(method, names).state_dict()
    torch.manual_seed(3)
    model = new_model(method, names, pretrained=str(saved(method)))
    old, report = load_file(saved(method) / "model.safetensors"), model.warm_start
    axes = label_axes(model)
    assert (report.kept_labels, report.new_labels, report.left_labels) == (["boat", "dog"], ["bus"], ["cat", "car"])
    for name in report.loaded:
        assert torch.equal(model.state_dict()[name], old[name])
    for name in report.new:
        assert torch.equal(model.state_dict()[name], fresh[name])
    for name in report.by_label:
        tensor, first = model.state_dict()[name], axes[name][0]
        if axes[name] == (0, 1):
            assert torch.equal(tensor[[0, 2]][:, [0, 2]], old[name][[3, 0]][:, [3, 0]])
        else:
            assert torch.equal(tensor.index_select(first, torch.tensor([0, 2])), old[name][[3, 0]])
        assert torch.equal(tensor[1], fresh[name][1])
    parameters = {name for name, _ in model.named_parameters()}
    assert parameters <= {*report.loaded, *report.by_label, *report.new}, "nothing is left out of the report"


def test_pairs_of_labels_are_new_where_the_labels_are_others(saved):
    report = new_model("sst", ["dog", "cat"], pretrained=str(saved("sst"))).warm_start
    assert report.new == ["cooccurrence_head.classifier.weight", "cooccurrence_head.classifier.bias"]


def test_another_network_takes_the_backbone_alone(saved):
    model = new_model("sst", pretrained=str(saved("asl")))
    old = load_file(saved("asl") / "model.safetensors")
    backbone = {name for name in old if name.startswith("backbone.")}
    assert set(model.warm_start.loaded) == backbone != set() == set(model.warm_start.by_label)
    assert all(torch.equal(model.state_dict()[name], old[name]) for name in backbone)
    assert "classifier.weight" in model.warm_start.new


def test_towers_go_from_one_network_of_clip_to_another(saved):
    model = new_model("scpnet", pretrained=str(saved("dualcoop")))
    assert {name.partition(".")[0] for name in model.warm_start.loaded} >= {"backbone", "text_encoder"}
    assert "prompts.context" in model.warm_start.new and model.has_tokenizer


def test_the_learned_context_of_prompts_is_not_started_again(saved):
    model = new_model("scpnet", pretrained=str(saved("scpnet")))
    assert torch.equal(model.prompts.context, load_file(saved("scpnet") / "model.safetensors")["prompts.context"])


def test_other_sizes_are_an_error_that_names_the_setting(saved):
    with pytest.raises(ValueError, match=r"\. `representation_dim` is 24 there and 32 here\. Give the section"):
        new_model("ssgrl", representation_dim=32, pretrained=str(saved("ssgrl")))
    with pytest.raises(ValueError, match=r"`backbone` is 'test_resnet' there and 'test_convnext' here"):
        new_model("asl", backbone="test_convnext", pretrained=str(saved("ssgrl")))


def test_a_missing_tensor_is_an_error(saved, tmp_path):
    folder = shutil.copytree(saved("ssgrl"), tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    del tensors["fuse.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="fuse.weight is missing"):
        new_model("ssgrl", pretrained=str(folder))


def test_a_training_that_was_stopped_gives_its_averaged_weights(saved, tmp_path):
    folder = shutil.copytree(saved("asl"), tmp_path / "checkpoint-5")
    tensors = {name: tensor + 1 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "ema.safetensors")
    model = new_model("asl", pretrained=str(folder))
    assert torch.equal(model.classifier.weight, tensors["classifier.weight"])


def test_checkpoints_of_the_first_version_are_a_start(saved, tmp_path):
    folder = shutil.copytree(saved("ssgrl"), tmp_path / "old")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "ssgrl"}
    (folder / "config.json").write_text(json.dumps(config))
    assert new_model("ssgrl", pretrained=str(folder)).warm_start.kept_labels == LABELS


def test_from_the_hub_and_on_the_command_line(online, tmp_path, capsys):
    names = [str(i) for i in range(10)]
    new_model("asl", names[:8]).push_to_hub(f"{USER}/digits", tag="v1")
    recipe = tmp_path / "on.yaml"
    content = tiny_content("asl", model={"pretrained": f"{USER}/digits@v1"}, training={"num_train_epochs": 1})
    recipe.write_text(json.dumps(content))
    assert main(["train", str(recipe), "--output", str(tmp_path / "run"), "--no-pictures"]) == 0
    printed = capsys.readouterr().out
    assert f"Started from {USER}/digits@v1 (mlrpl-baseline): " in printed
    assert "8 labels were taken over: 0, 1, 2, 3, 4, 5, 6, 7." in printed
    assert "New in classifier: 8, 9." in printed
    assert f"base_model: {USER}/digits\n" in (tmp_path / "run" / "README.md").read_text()
    content["model"]["pretrained"] = f"{USER}/nothing"
    recipe.write_text(json.dumps(content))
    assert main(["train", str(recipe), "--output", str(tmp_path / "other")]) == 2
    assert f"{USER}/nothing is not on the Hub, or is private" in capsys.readouterr().err
