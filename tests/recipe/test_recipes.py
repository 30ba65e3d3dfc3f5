import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import MODELS, build_model, make_trainer, tiny_content, tiny_model, tiny_recipe, write_recipe

from hf_mlrpl.data.columns import label_matrix, make_dataset
from hf_mlrpl.data.images.photos import pixels_of
from hf_mlrpl.hub.shipped import recipe_files
from hf_mlrpl.objective import what_never_begins
from hf_mlrpl.recipe.data_part import DataPart
from hf_mlrpl.recipe.document import DEFAULT_RECIPE, Recipe
from hf_mlrpl.registry import METHODS, VIEWS, load
from hf_mlrpl.schedules import Progress
from hf_mlrpl.settings import from_mapping
from hf_mlrpl.trainer.trainer import MultiLabelTrainer
from hf_mlrpl.trainer.training_args import MultiLabelTrainingArguments


@pytest.mark.parametrize("name", recipe_files())
def test_every_shipped_recipe_is_valid(name, tmp_path):
    recipe = Recipe.load(name)
    assert recipe.name == name.replace("/", "-") and recipe.method == name.split("/")[0]
    arguments = recipe.build_arguments(tmp_path)
    assert arguments.learning_rate > 0
    assert arguments.num_train_epochs >= 1 or recipe.method == "zero_shot_clip"  # which trains nothing
    assert not what_never_begins(recipe.objective.config, arguments.num_train_epochs)
    assert recipe.objective.build(recipe.model.config(["cat", "dog"])) is not None


def test_every_method_has_a_recipe():
    assert {name.split("/")[0] for name in recipe_files()} == METHODS.keys()
    assert DEFAULT_RECIPE in recipe_files()


def test_a_recipe_is_found_by_path_and_by_name(tmp_path):
    path = write_recipe(tmp_path)
    assert Recipe.load(path).to_dict() == tiny_content()
    assert Recipe.load(path).name == "tiny"
    assert Recipe.load("sst/digit_scenes_10").to_dict() == Recipe.load("sst/digit_scenes_10.yaml").to_dict()


def test_a_saved_recipe_is_the_same_recipe(tmp_path):
    recipe = tiny_recipe()
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml").to_dict() == recipe.to_dict()


def test_overrides_replace_and_add_settings():
    overrides = [
        "data.proportion=0.3",
        "training.learning_rate=1e-4",
        "objective.ramp.epochs=2",
        "model.backbone=vgg11",
    ]
    recipe = Recipe.load("sst/digit_scenes_10", [*overrides, "objective.cooccurrence=statistical"])
    assert recipe.data.settings["proportion"] == 0.3 and recipe.training.settings["learning_rate"] == 1e-4
    assert recipe.model.settings["backbone"] == "vgg11"
    config = recipe.objective.config
    assert config.ramp.epochs == 2 and config.cooccurrence == "statistical"


def test_an_override_without_a_value_takes_a_setting_out():
    overrides = ["data.protocol=single_positive", "data.proportion=", "data.seed="]
    recipe = Recipe.load("sst/digit_scenes_10", overrides)
    assert "proportion" not in recipe.data.settings and recipe.data.protocol.num_positives == 1
    assert "unknown_pairs" in Recipe.load().objective.settings
    assert "unknown_pairs" not in Recipe.load(overrides=["objective.unknown_pairs="]).objective.settings


def test_an_override_fills_an_empty_section(tmp_path):
    (tmp_path / "empty.yaml").write_text("method: asl\ndata: {name: digit_scenes}\nobjective:\n")
    assert Recipe.load(tmp_path / "empty.yaml", ["objective.clip=0.1"]).objective.settings == {"clip": 0.1}


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.learning_rate", "An override must look like section.key=value, got 'training.learning_rate'"),
        ("=3", "An override must look like section.key=value"),
        ("training..seed=3", "An override must look like section.key=value"),
        ("training.learning_rate.x=3", "needs `learning_rate` to be a section, but it is a value"),
        ("training.seed=[1", "The override 'training.seed=[1' is not valid YAML"),
        (
            "training.learning_rat=1",
            "Recipe section `training` has no key `learning_rat`. Did you mean `learning_rate`?",
        ),
        ("trainin.seed=1", "The recipe has no key `trainin`. Did you mean `training`?"),
        ("training.learning_rate=fast", "Recipe key `training.learning_rate` must be a number, got 'fast'"),
        ("training.num_train_epochs=null", "Recipe key `training.num_train_epochs` must be a number"),
        ("model.num_lables=3", "Recipe section `model` has no key `num_lables`"),
        ("model.image_size=large", "Recipe key `model.image_size` must be"),
        ("model.image_size=[32, 2, 3]", "`image_size` must be a side or [height, width] in pixels, got"),
        ("model.image_size=1", "`model.image_size` must lie in [2, 8192], got 1"),
        ("model.pretrained=3", "Recipe key `model.pretrained` must be true or false or text, got 3"),
        ("objective.bank_sise=3", "Recipe section `objective` has no key `bank_sise`. Did you mean `bank_size`?"),
        ("objective.bank_size=0", "`objective.bank_size` must lie in [1, 1e6], got 0"),
        ("objective.vote=max", "Recipe key `objective.vote` must be one of mean, sum, got 'max'"),
        ("objective.intra_threshold.first=0.1", "`floor` must not lie above `first`"),
        ("data.name=digit_scene", "Unknown data set 'digit_scene'. Did you mean 'digit_scenes'?"),
        ("data.name=imagenet", "Unknown data set 'imagenet'. Available: digit_scenes, coco, voc"),
        ("data.protocol=random", "Unknown protocol 'random'"),
        ("data.view=shfit", "Unknown view 'shfit'. Did you mean 'shift'?"),
        ("data.further_views=strong", "Recipe key `data.further_views` must be a mapping, got 'strong'"),
        ("data.further_views={labels: shift}", "must map names such as `strong` to views, got 'labels'"),
        ("data.further_views={1: shift}", "must map names such as `strong` to views, got 1"),
        (
            "data.further_views.weak=shfit",
            "Unknown view in `data.further_views.weak`: 'shfit'. Did you mean 'shift'?",
        ),
        ("model.resize=cut", "Recipe key `model.resize` must be one of stretch, crop, got 'cut'"),
        ("data.validation=10", "`data.validation` must lie in [0, 1), got 10"),
        ("data.proportoin=0.1", "Recipe section `data` has no key `proportoin`. Did you mean `proportion`?"),
        ("data.on_bad_image=ignore", "Recipe key `data.on_bad_image` must be one of error, skip, got 'ignore'"),
        ("data.path=/data", "Recipe section `data` has no key `path`"),
        ("data.num_scenes=many", "Recipe key `data.num_scenes` must be a whole number or null, got 'many'"),
        ("method=sts", "Unknown method 'sts'. Did you mean 'sst'?"),
        ("data=3", "Recipe section `data` must be a mapping of keys to values, got 3"),
        ("data={}", "The recipe has no `data.name`"),
    ],
)
def test_a_wrong_setting_is_found_before_anything_is_loaded(override, message):
    with pytest.raises(ValueError) as error:
        Recipe.load("sst/digit_scenes_10", [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.prior_top_k=1", "`model.prior_top_k` must lie in [2, 1e6], got 1"),
        ("model.prior_reweight=2", "`model.prior_reweight` must lie in [0, 1], got 2"),
        ("model.prior_temperature=0", "`model.prior_temperature` must lie in (0, 1e6], got 0"),
        ("objective.candidate_threshold=95", "`objective.candidate_threshold` must lie in (0, 1], got 95"),
    ],
)
def test_a_wrong_setting_of_scpnet_is_found_before_anything_is_loaded(override, message):
    with pytest.raises(ValueError) as error:
        Recipe.load("scpnet/digit_scenes_10", [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "must be a mapping with the keys method, data, model, objective, training"),
        ("- 1", "must be a mapping with the keys"),
        ("a: [", "is not valid YAML"),
        ("method: sst", "The recipe has no `data`"),
        ("data: {name: digit_scenes}", "The recipe has no `method`"),
        ("method: [sst]\ndata: {name: digit_scenes}", "Unknown method ['sst']"),
        ("method: sst\ndata: {name: digit_scenes}\ntraining: fast", "Recipe section `training` must be a mapping"),
    ],
)
def test_a_file_that_is_no_recipe_is_an_error(content, message, tmp_path):
    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(ValueError) as error:
        Recipe.load(tmp_path / "broken.yaml")
    assert message in str(error.value)


def test_a_missing_file_is_an_error_that_offers_the_closest(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no recipe 'sst/voc07_10', .* mean 'sst/voc2007_10'?"):
        Recipe.load("sst/voc07_10")
    (tmp_path / "my_photos.yaml").touch()
    with pytest.raises(FileNotFoundError, match="Did you mean '.*/my_photos.yaml'?"):
        Recipe.load(tmp_path / "my_photo.yaml")


def test_a_table_is_no_recipe(tmp_path):
    (tmp_path / "photos.csv").write_text("image,dog\n")
    with pytest.raises(ValueError, match="photos.csv is a table, not a recipe"):
        Recipe.load(tmp_path / "photos.csv")


def test_settings_of_a_loader_have_its_types():
    """In YAML 1.2 `no` is a text, and a text that is not empty would count as true."""
    with pytest.raises(ValueError, match="Recipe key `data.annotated_only` must be true or false, got 'no'"):
        Recipe.load("role/coco2014_single_positive", ["data.annotated_only=no"])
    with pytest.raises(ValueError, match="Recipe key `data.labels` must be a list or text or a path or null, got 3"):
        _recipe_of({"name": "table", "path": "here", "labels": 3})
    for year in ("2012", 2012):
        with pytest.raises(FileNotFoundError, match="There is no VOC 2012 in /nowhere"):
            _recipe_of({"name": "voc", "path": "/nowhere", "year": year}).data.load()


def test_a_missing_setting_of_a_loader_or_protocol_is_an_error():
    with pytest.raises(ValueError, match="The data set 'coco' needs `data.path`"):
        _recipe_of({"name": "coco"}).data.load()
    with pytest.raises(ValueError, match="Recipe section `data` needs `proportion`"):
        _recipe_of({"name": "digit_scenes", "protocol": "random_known"})


def _recipe_of(data: dict) -> Recipe:
    return Recipe.from_dict({"method": "partial_bce", "data": data})


# ---- data ----


def test_training_images_lose_labels_and_the_others_do_not():
    splits = tiny_recipe(data={"proportion": 0.3}).data.load()
    labels, full = label_matrix(splits.train), label_matrix(splits.train, "full_labels")
    assert 0.2 < (labels != 0).mean() < 0.4
    assert (full != 0).all() and ((labels == full) | (labels == 0)).all()
    assert (label_matrix(splits.validation) != 0).all() and (label_matrix(splits.test) != 0).all()
    assert splits.names == [str(digit) for digit in range(10)]


def test_a_split_of_the_data_may_be_the_validation_part(tmp_path):
    lists = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    for split, names in lists.items():
        rows = "".join(f"{name}.png,1,0\n" for name in names)
        (tmp_path / f"{split}.csv").write_text(f"image,cat,dog\n{rows}")
        for name in names:
            Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    data = {"name": "table", "path": str(tmp_path), "protocol": "random_known", "proportion": 0.5}
    splits = _recipe_of(data | {"validation": "val"}).data.load()
    assert [len(images) for images in (splits.train, splits.validation, splits.test)] == [2, 1, 1]
    assert splits.validation["image_id"][:] == ["c.png"] and label_matrix(splits.validation).tolist() == [[1, -1]]
    assert _recipe_of(data | {"validation": "val"}).build_arguments(tmp_path).eval_strategy == "epoch"
    with pytest.raises(ValueError, match="no split 'holdout' in .*Available splits: 'train', 'val', 'test'"):
        _recipe_of(data | {"validation": "holdout"}).data.load()


@pytest.mark.parametrize(
    "kind, names, message",
    [
        ("validation", ["dog", "cat"], "Training and validation images have different labels: the same names"),
        (
            "test",
            ["cat", "cow"],
            "Training and test images have different labels: dog only in training, cow",
        ),
    ],
)
def test_all_images_of_a_run_must_have_the_same_labels(kind, names, message, monkeypatch):
    labels = np.array([[1, -1]], dtype=np.int8)

    def load_split(self, split):
        return make_dataset([b""], ["a"], labels, names if split == kind else ["cat", "dog"])

    monkeypatch.setattr(DataPart, "load_split", load_split)
    with pytest.raises(ValueError, match=message):
        _recipe_of({"name": "digit_scenes", "validation": "validation"}).data.load()


def test_a_larger_validation_part_does_not_change_the_known_labels():
    """Labels are hidden before the validation part is held out, so runs with and without one are comparable."""
    some, none = tiny_recipe().data.load(), tiny_recipe(data={"validation": 0.0}).data.load()
    assert none.validation is None and len(none.train) == 64
    all_labels = dict(zip(none.train["image_id"], label_matrix(none.train).tolist(), strict=True))
    some_labels = dict(zip(some.train["image_id"], label_matrix(some.train).tolist(), strict=True))
    assert some_labels == {name: all_labels[name] for name in some_labels}


def test_without_a_validation_part_nothing_is_evaluated_during_training(tmp_path):
    assert tiny_recipe(data={"validation": 0.0}).build_arguments(tmp_path).eval_strategy == "no"
    assert tiny_recipe().build_arguments(tmp_path).eval_strategy == "epoch"


@pytest.mark.parametrize(
    "setting", [{"choose_thresholds": True}, {"load_best_model_at_end": True}, {"eval_strategy": "epoch"}]
)
def test_what_needs_validation_images_is_refused_without_them(setting, tmp_path):
    recipe = tiny_recipe(data={"validation": 0.0}, training=setting)
    with pytest.raises(
        ValueError, match=f"`training.{next(iter(setting))}` needs validation images: set `data.validation`"
    ):
        recipe.build_arguments(tmp_path)


@pytest.mark.parametrize("part, number", [(0.001, 0), (0.999, 64)])
def test_the_validation_part_leaves_images_on_both_sides(part, number):
    with pytest.raises(ValueError, match=f"must leave images on both sides, but {part} holds out {number} of 64"):
        tiny_recipe(data={"validation": part}).data.load()


def test_further_views_belong_to_training_images():
    recipe = tiny_recipe(data={"further_views": {"weak": "shift", "strong": "strong_shift"}})
    splits = recipe.data.load()
    data, config = splits.train, recipe.model.config(splits.names)
    training = recipe.data.images(data, config, training=True)
    assert set(training[0]) - {"labels", "full_labels", "index"} == {"pixel_values", "weak", "strong"}
    assert training.views["pixel_values"] == training.views["weak"], "equal views share what is prepared"
    assert not {"weak", "strong"} & set(recipe.data.images(data, config, training=False)[0])


def test_skipped_images_are_replaced_in_training_and_black_in_evaluation():
    recipe = tiny_recipe(data={"on_bad_image": "skip"})
    config = recipe.model.config(["a"])
    photo = Image.new("RGB", (40, 40), "white")
    data = make_dataset([b"no image", photo], ["bad", "good"], np.ones((2, 1), np.int8), ["a"])
    training, evaluation = (recipe.data.images(data, config, training=training) for training in (True, False))
    assert training[0]["pixel_values"].eq(255).all() and training[0]["index"] == 1
    assert not evaluation[0]["pixel_values"].any() and evaluation[0]["index"] == evaluation[0]["labels"] == 0


def test_evaluation_cuts_out_the_centre_where_the_model_says_so():
    for resize, expected in (("stretch", "plain"), ("crop", "center_crop")):
        recipe = tiny_recipe(model={"resize": resize})
        config = recipe.model.config(["a"])
        wide = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))).convert("RGB")
        data = make_dataset([wide], ["wide"], np.ones((1, 1), np.int8), ["a"])
        view = load(VIEWS[expected].target)((32, 32))
        for images in (
            recipe.data.images(data, config, training=False),
            recipe.data.images(data, config, training=True).without_augmentation(),
        ):
            assert torch.equal(images[0]["pixel_values"], view(pixels_of(wide)))


# ---- model ----


def test_the_priors_see_the_known_training_labels_only():
    recipe = tiny_recipe("ssgrl", model={"graph_estimator": "published"})
    splits = recipe.data.load()
    known = label_matrix(splits.train)
    model = build_model(recipe, splits.names, known)
    with_hidden = build_model(recipe, splits.names, label_matrix(splits.train, "full_labels"))
    assert model.config.label_names == splits.names
    assert not np.array_equal(model.label_graph.numpy(), with_hidden.label_graph.numpy())


def test_pretrained_weights_come_from_a_file(tmp_path):
    from safetensors.torch import save_file

    source = build_model(tiny_recipe(), ["a", "b"], np.array([[1, -1], [-1, 1]], dtype=np.int8)).backbone.network
    save_file({name: value.contiguous() for name, value in source.state_dict().items()}, tmp_path / "w.safetensors")
    recipe = tiny_recipe("partial_bce", model={"pretrained": str(tmp_path / "w.safetensors")})
    actual = build_model(recipe, ["x"], np.ones((1, 1), dtype=np.int8)).backbone.network.state_dict()
    assert all(value.equal(actual[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize("method", ["ssgrl", "ip_mixup", "fm_mixup"])
def test_an_objective_that_only_classifies_trains_any_network(method):
    recipe = Recipe.from_dict(tiny_content(method) | {"model": MODELS["asl"] | {"name": "asl"}})
    model = build_model(recipe, ["a", "b"], np.eye(2, dtype=np.int8))
    objective = recipe.objective.build(model.config)
    output = model(torch.randn(2, 3, 32, 32), torch.tensor([[1, 0], [-1, 1]]), objective, Progress(0, 1, 0.0))
    output.loss.backward()
    assert type(model).__name__ == "BaselineForMultiLabelClassification"
    assert all(p.grad is not None for p in model.parameters())


def test_a_loss_trains_the_network_of_another_method():
    recipe = tiny_recipe("asl", model=MODELS["ssgrl"] | {"name": "ssgrl"})
    model = build_model(recipe, ["a", "b"], np.array([[1, -1], [1, 1]], dtype=np.int8))
    assert type(model).__name__ == "SsgrlForMultiLabelClassification" and model.label_graph[1, 0] == 1
    objective = recipe.objective.build(model.config)
    output = model(torch.randn(2, 3, 32, 32), torch.tensor([[1, 0], [-1, 1]]), objective, Progress(0, 1, 0.0))
    output.loss.backward()
    assert type(objective).__name__ == "AslObjective" and model.label_graph.grad is None
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "method, model, message",
    [
        ("asl", {"name": "ssgr"}, "Unknown method 'ssgr'. Did you mean 'ssgrl'?"),
        ("asl", {"output_dim": 8}, "Recipe section `model` has no key `output_dim`"),
        ("sst", {"name": "asl"}, "`model.name` must not be 'asl': sst needs its own network"),
        ("sarb", {"name": "sst"}, "`model.name` must not be 'sst': sarb needs its own network"),
        ("sst", {"name": "query2label"}, "With `objective.intra_weight`, `objective.cooccurrence_weight` at 0, this"),
        ("dsrb", {"name": "query2label"}, "dsrb needs its own network. Methods that are only a loss train"),
    ],
)
def test_a_network_that_does_not_fit_the_method_is_an_error(method, model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe.from_dict({"method": method, "data": {"name": "digit_scenes"}, "model": model})


# Settings without the terms that need parts of the method's own network, and with those that compare vectors of labels
EAGER = {"start_epoch": 0, "first": 0.1, "floor": 0.1}
COMPARING = {
    "sst": {"intra_weight": 0.0, "cooccurrence_weight": 0.0, "bank_size": 4, "cross_threshold": EAGER},
    "sarb": {"instance_weight": 0.0, "prototype_weight": 0.0, "start_epoch": 0},
    "hst": {
        "intra_weight": 0.0,
        "cross_weight": 0.0,
        "intra_threshold_weight": 0.0,
        "cross_threshold_weight": 0.0,
        "cooccurrence_weight": 0.0,
        "start_epoch": 0,
        "num_prototypes": 2,
    },
}
OTHER_TERMS = {"sst": {"cross", "similarity"}, "sarb": {"similarity"}, "hst": {"prototype", "similarity"}}


def comparing_recipe(method: str, network: str, **model) -> Recipe:
    return Recipe.from_dict(
        tiny_content(method) | {"model": MODELS[network] | {"name": network} | model, "objective": COMPARING[method]}
    )


@pytest.mark.parametrize("network", ["query2label", "ml_decoder", "ssgrl"])
@pytest.mark.parametrize("method", COMPARING)
def test_terms_that_compare_vectors_of_labels_train_networks_that_have_them(method, network, tmp_path):
    trainer = make_trainer(comparing_recipe(method, network), tmp_path)
    trainer.train()
    logged = {name.removeprefix("loss_") for entry in trainer.state.log_history for name in entry}
    assert OTHER_TERMS[method] <= logged
    assert type(trainer.model) is load(METHODS[network].model)


@pytest.mark.parametrize("method", COMPARING)
def test_terms_that_compare_vectors_of_labels_refuse_networks_where_labels_share_them(method, tmp_path):
    shared = r"compares vectors of labels, and in this ML-Decoder 2 labels share one: set `model\.num_groups=10`"
    with pytest.raises(ValueError, match=shared):
        make_trainer(comparing_recipe(method, "ml_decoder", num_groups=5), tmp_path)
    for network in ("asl", "gcn_ml", "add_gcn"):
        with pytest.raises(ValueError, match="a network of the type .* gives labels none of their own"):
            comparing_recipe(method, network)
    config = from_mapping(load(METHODS[method].objective).config_class, COMPARING[method], "objective")
    with pytest.raises(ValueError, match="in this ML-Decoder 3 labels share one"):
        MultiLabelTrainer(tiny_model("ml_decoder", num_groups=2), MultiLabelTrainingArguments(tmp_path), config)
    with pytest.raises(ValueError, match="at 0, this one trains any network that gives each label a vector"):
        MultiLabelTrainer(tiny_model("query2label"), MultiLabelTrainingArguments(tmp_path), objective=method)


def test_differences_name_the_settings():
    recipe = tiny_recipe()
    other = tiny_recipe(data={"proportion": 0.1}, objective={"bank_size": 7}, training={"seed": 3})
    assert recipe.differences(other) == {
        "data.proportion": "data.proportion is 0.5 and was 0.1",
        "objective.bank_size": "objective.bank_size is 4 and was 7",
        "training.seed": "training.seed is None and was 3",
    }
    assert recipe.differences(tiny_recipe("ssgrl"))["method"] == "method is 'sst' and was 'ssgrl'"
    assert recipe.differences(Recipe.from_dict(yaml.safe_load(yaml.safe_dump(tiny_content())))) == {}


def test_the_output_that_was_asked_for_counts_not_that_of_the_recipe(tmp_path):
    recipe = tiny_recipe(training={"output_dir": "elsewhere"})
    assert recipe.build_arguments(tmp_path).output_dir == str(tmp_path)


@pytest.mark.parametrize(
    "data, message",
    [
        ({}, "`protocol: none` does not. Other seeds: `data.scenes_seed`, `data.validation_seed`, `training.seed`"),
        (
            {"protocol": "listed_positives", "list": "x"},
            "`protocol: listed_positives` does not. Other seeds: `data.sc",
        ),
        ({"name": "coco"}, "`protocol: none` does not. Other seeds: `data.validation_seed`, `training.seed`"),
    ],
)
def test_the_seed_of_the_data_is_that_of_the_protocol(data, message):
    with pytest.raises(ValueError, match="Recipe section `data` has no key `seed` here: it is that of a pr") as error:
        _recipe_of({"name": "digit_scenes", "seed": 1} | data)
    assert message in str(error.value)


def test_a_part_can_be_used_alone():
    section = {"name": "digit_scenes", "num_scenes": 8, "protocol": "random_known", "proportion": 0.5}
    data, other = DataPart(section), DataPart(section | {"seed": 3, "scenes_seed": 4, "validation": 0.25})
    assert (data.hidden, data.known_part) == ("random_known, proportion 0.5", ("proportion", 0.5))
    assert other.hidden == "random_known, proportion 0.5, seed 3"
    splits = data.load()
    assert len(splits.train) == 8 and splits.validation is None and splits.names == [str(i) for i in range(10)]
    assert np.array_equal(splits.known_labels, label_matrix(splits.train))
    assert splits.summary.num_images == 8 and splits.measured[0] == "test"
    assert not np.array_equal(label_matrix(other.load_split("train")), label_matrix(data.load_split("train")))
    plain = DataPart({"name": "digit_scenes"})
    assert (plain.hidden, plain.known_part, plain.protocol) == ("no labels hidden", None, None)


@pytest.mark.parametrize("size", ["[32]", "[32, 32, 32]", "[]", "0", "[32, 0]"])
def test_an_image_size_is_a_side_or_height_and_width(tmp_path, size):
    with pytest.raises(ValueError, match="`.*image_size` must (be a side or|lie in)"):
        Recipe.load(write_recipe(tmp_path), [f"model.image_size={size}"])


@pytest.mark.parametrize(
    "overrides",
    [["training.seed=1", "training.seed=2"], ["training.seed=1", "training={}"], ["data.seed=1", "data.seed="]],
)
def test_no_override_undoes_another(overrides):
    with pytest.raises(ValueError, match="is undone by"):
        Recipe.load("sst/digit_scenes_10", overrides)


def test_training_images_select_nothing():
    with pytest.raises(ValueError, match="`data.validation` must not be train"):
        Recipe.load("sst/digit_scenes_10", ["data.validation=train"])


def test_whole_numbers_reach_the_trainer_as_floats(tmp_path):
    beta = Recipe.load("sst/digit_scenes_10", ["training.adam_beta2=0"]).build_arguments(tmp_path).adam_beta2
    assert (beta, type(beta)) == (0.0, float)
