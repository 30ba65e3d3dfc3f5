"""TaI-DPT learns from captions in the place of images, through recipes, trainer and commands."""

import json
import re

import pytest
import torch
from interruptions import interrupted, numbers
from tiny import make_trainer, tiny_content, tiny_model, weights

from hf_mlrpl import MultiLabelTrainer, MultiLabelTrainingArguments, load_captions
from hf_mlrpl.cli.main import main
from hf_mlrpl.data.captions.caption_tokens import CaptionTokens
from hf_mlrpl.recipe.document import Recipe

OF_IMAGES = ("protocol", "proportion", "view")
FROZEN = {"trainable_backbone": [], "text_sizes": {"layers": 1, "width": 64, "vocab_size": 514, "context_length": 40}}
DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def captions(tmp_path):
    """48 captions of one or two digits, and one of none."""
    texts = [f"a {i % 10} on paper" if i % 2 else f"{i % 10} and also a {3 * i % 10}" for i in range(48)]
    (tmp_path / "captions.txt").write_text("\n".join([*texts, "nothing at all"]))
    return tmp_path / "captions.txt"


def content(captions, method: str = "tai_dpt", **sections) -> dict:
    """A recipe as a mapping, whose images are scenes of digits."""
    recipe = tiny_content(method, data={"captions": str(captions)})
    recipe["data"] = {key: value for key, value in recipe["data"].items() if key not in OF_IMAGES}
    recipe["model"] |= FROZEN
    for section, values in sections.items():
        recipe[section] |= values
    return recipe


def test_captions_are_learned_from_and_images_are_tested_with(captions, tmp_path):
    training = {"num_train_epochs": 8, "learning_rate": 0.01}
    recipe = Recipe.from_dict(content(captions, model={"trainable_text_encoder": True}, training=training))
    trainer = make_trainer(recipe, tmp_path)
    assert isinstance(trainer.train_dataset, CaptionTokens) and len(trainer.train_dataset) == 48
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.state.log_history[-2]["eval_map"] > 0
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"global_prompts.context", "local_prompts.context"} <= changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_only_prompts_are_trained_beside_frozen_towers(captions, tmp_path):
    trainer = make_trainer(Recipe.from_dict(content(captions)), tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"global_prompts.context", "local_prompts.context"}


def test_a_batch_of_captions_has_the_loss_of_its_captions(captions):
    """Whatever stands beside them: padding counts for nothing."""
    model = tiny_model("tai_dpt", num_labels=10, **FROZEN)
    recipe = Recipe.from_dict(content(captions))
    objective = recipe.objective.build(model.config)
    items = CaptionTokens(load_captions(captions, DIGITS), model.tokenizer, 40)

    def loss(*rows: int) -> torch.Tensor:
        batch = torch.utils.data.default_collate(items.__getitems__(rows))
        return model.train()(**batch, objective=objective).loss

    assert len({len(items[row]["input_ids"]) for row in (0, 1)}) == 2
    torch.testing.assert_close(loss(0, 1), (loss(0) + loss(1)) / 2)


def test_a_stopped_run_goes_on_exactly_and_only_with_its_captions(captions, tmp_path):
    training = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "per_device_train_batch_size": 24}
    recipe = Recipe.from_dict(content(captions, training=training))
    unbroken = make_trainer(recipe, tmp_path / "unbroken")
    unbroken.train()
    resumed = interrupted(recipe, tmp_path / "stopped", (1, 3))
    assert numbers(resumed) == numbers(unbroken)
    assert weights(resumed) == weights(unbroken)
    captions.write_text(captions.read_text().replace("paper", "a wall"))
    with pytest.raises(ValueError, match="cannot be resumed, for the captions of the training set have changed"):
        make_trainer(recipe, tmp_path / "stopped").train(resume_from_checkpoint=True)


def test_a_trainer_takes_captions(captions, tmp_path):
    args = MultiLabelTrainingArguments(output_dir=str(tmp_path), max_steps=2, report_to="none", disable_tqdm=True)
    model = tiny_model("tai_dpt", num_labels=10, **FROZEN)
    model.config.id2label = dict(enumerate(DIGITS))
    trainer = MultiLabelTrainer(model, args, "tai_dpt", load_captions(captions, DIGITS))
    trainer.train()
    assert trainer.state.global_step == 2
    with pytest.raises(ValueError, match="DualCoOpObjective learns from images and cannot read captions"):
        MultiLabelTrainer(tiny_model("dualcoop", num_labels=10), args, "dualcoop", load_captions(captions, DIGITS))


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("data", {"protocol": "random_known", "proportion": 0.1}, "`data.protocol` is about training images"),
        ("data", {"view": "plain"}, "`data.view` is about training images, and `data.captions` takes their place"),
        ("data", {"captions": None, "synonyms": "coco"}, "`data.synonyms` says how captions are read, but there are"),
        ("data", {"captions": "captions_train2014.json"}, "There is no file of captions captions_train2014.json"),
        ("data", {"synonyms": {"11": ["eleven"]}}, "`synonyms` has no key `11`"),
        ("model", {"trainable_backbone": ["layer4"]}, "so it must be frozen: set `model.trainable_backbone="),
    ],
)
def test_what_does_not_go_with_captions(section, settings, message, captions, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        make_trainer(Recipe.from_dict(content(captions, **{section: settings})), tmp_path)


def test_a_method_that_reads_no_captions_is_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match="DualCoOpObjective learns from images and cannot read captions: leave"):
        Recipe.from_dict(content("no_such_file.json", method="dualcoop"))


def test_labels_come_from_the_validation_images_where_there_are_no_test_images(captions, monkeypatch):
    from hf_mlrpl.data.columns import SplitNotFound
    from hf_mlrpl.recipe.data_part import DataPart

    load_split = DataPart.load_split

    def only_train(self, split):
        if split == "test":
            raise SplitNotFound(split, ["train"], "the data")
        return load_split(self, split)

    monkeypatch.setattr(DataPart, "load_split", only_train)
    splits = Recipe.from_dict(content(captions)).data.load()
    assert splits.test is None and splits.names == DIGITS and len(splits.validation) == 16
    with pytest.raises(ValueError, match="needs images that say which labels there are"):
        Recipe.from_dict(content(captions, data={"validation": 0.0})).data.load()


def test_commands(captions, tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(content(captions, training={"max_steps": 1})))
    assert main(["data", str(recipe), "--examples", "2"]) == 0
    printed = capsys.readouterr().out
    assert "48 captions, 10 labels, 100.0% of the entries known" in printed
    assert "\n  0 and also a 0  [0]\n  a 1 on paper  [1]\n" in printed
    assert main(["data", str(recipe), "--write", str(tmp_path / "out.parquet")]) != 0
    assert "`--write` writes images with their labels, and these are captions" in capsys.readouterr().err
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output", str(run), "--no-pictures"]) == 0
    assert "of 48 captions" in capsys.readouterr().out
    card = (run / "README.md").read_text()
    assert "48 training captions with 10 labels each, of which 100.0 % are known: those that a caption names" in card
    assert main(["evaluate", str(run)]) == 0
    assert main(["evaluate", str(run), "--split", "train"]) != 0
    assert "trains on captions, which are no images to measure on" in capsys.readouterr().err
    assert main(["review", str(run)]) != 0
    assert "a review is about photos" in capsys.readouterr().err
