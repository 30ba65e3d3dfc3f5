"""What other packages add to the registries, from `example_package`."""

import json
import sys
from pathlib import Path

import pytest

from hf_mlrpl.cli.main import main
from hf_mlrpl.data.columns import label_matrix
from hf_mlrpl.hub.converter import Converter
from hf_mlrpl.hub.shipped import facts_of_page, page_of, recipe_files
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.registry import DATASETS, METHODS, REGISTRIES, VIEWS, Entry, MethodSpec, load, lookup, register

ENTRY_POINTS = """\
[hf_mlrpl.methods]
weak_negatives = example_package:METHOD
[hf_mlrpl.datasets]
squares = example_package:DATASET
[hf_mlrpl.protocols]
every_nth = example_package:PROTOCOL
[hf_mlrpl.views]
upside_down = example_package:VIEW
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """As they are before anybody has looked; what a test adds is taken away again."""
    for lines in REGISTRIES.values():
        monkeypatch.setattr(lines, "_lines", dict(lines))
        monkeypatch.setattr(lines, "_is_complete", False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "example_package"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write what `pip install` leaves of a package beside its modules."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(entry_points: str = ENTRY_POINTS, name: str = "example_package") -> None:
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)

    return install


# ---- entry points ----


def test_an_installed_package_is_listed(install, capsys):
    install()
    assert "example_package" not in sys.modules
    assert main(["list"]) == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"weak_negatives", "squares", "every_nth", "upside_down", "weak_negatives/squares"} <= words
    assert "example_package" in sys.modules and "example_package.parts" not in sys.modules, "only what is light"


def test_its_recipe_trains_on_its_data(install, tmp_path):
    install()
    output = tmp_path / "run"
    settings = ["training.disable_tqdm=true", "--no-pictures"]
    assert main(["train", "weak_negatives/squares", *settings, "--output", str(output)]) == 0
    assert 0 <= json.loads((output / "metrics.json").read_text())["test_map"] <= 100
    recipe = Recipe.load(output / "recipe.yaml")
    assert label_matrix(recipe.data.load().train)[:3].tolist() == [[-1, -1], [0, 0], [-1, 1]]
    assert type(recipe.objective.config).__module__ == "example_package.parts"
    assert Recipe.load("weak_negatives/squares").name == "weak_negatives-squares"


def test_its_data_are_summarised(install, capsys):
    install()
    assert main(["data", "squares", "num_images=6", "--examples", "0"]) == 0
    assert "6 images, 2 labels, 100.0% of the entries known" in capsys.readouterr().out


def test_its_page_is_found_beside_its_modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "paged_package" / "model_cards").mkdir(parents=True)
    page = tmp_path / "paged_package" / "model_cards" / "mine.md"
    page.write_text("## Mine\n")
    register("methods", "mine", MethodSpec("paged_package:Mine", "mine"))
    register("methods", "without", MethodSpec("paged_package:Mine", "has no page"))
    register("methods", "of_a_session", MethodSpec("__main__:Mine", "has no folder"))
    assert (page_of("mine"), page_of("without"), page_of("of_a_session")) == (page, None, None)
    assert [facts_of_page(name)["method"] for name in ("mine", "without")] == ["Mine", "without"]
    assert "sst/digit_scenes_10" in recipe_files()


def test_a_package_that_is_broken_is_named(install):
    install("[hf_mlrpl.views]\nbroken = example_package:NOTHING\n")
    for _ in range(2):
        with pytest.raises(ImportError, match="package example_package has 'broken' among its views, but .*NOTHING"):
            list(VIEWS)
    assert "sst" in METHODS


def test_an_entry_point_must_name_a_line(install):
    install("[hf_mlrpl.views]\nupside_down = example_package.parts:upside_down_view\n")
    with pytest.raises(TypeError, match="A line of views must be of the type Entry, got <function upside_down_view"):
        list(VIEWS)


def test_two_packages_with_one_name_are_an_error(install):
    register("datasets", "squares", Entry("another_package:load", "other squares"))
    install()
    with pytest.raises(ValueError, match="'squares' among their datasets: another_package and example_package"):
        list(DATASETS)


# ---- the call ----


class Copier(Converter):
    """Stands for a converter of another package."""

    description = "Copy a file that the authors have published."

    def add_arguments(self, parser):
        parser.add_argument("--name", required=True)

    def convert(self, arguments):
        arguments.output.mkdir()
        (arguments.output / arguments.name).write_text(Path(arguments.source).read_text())
        return ["copied"]


def test_a_method_brings_its_converter(tmp_path, capsys):
    register("methods", "mine", MethodSpec("a:B", "mine", converter=f"{__name__}:Copier"))
    with pytest.raises(SystemExit):
        main(["convert", "mine", "--help"])
    assert Copier.description in capsys.readouterr().out
    (tmp_path / "published.bin").write_text("numbers")
    assert main(["convert", "mine", str(tmp_path / "published.bin"), str(tmp_path / "out"), "--name", "ours"]) == 0
    assert capsys.readouterr().out == f"copied\nwrote {tmp_path / 'out'}: ours\n"


def test_a_line_may_be_registered_twice_but_not_replaced():
    line = Entry("collections:OrderedDict", "no view at all")
    register("views", "mine", line)
    register("views", "mine", line)
    assert load(VIEWS["mine"].target).__name__ == "OrderedDict"
    with pytest.raises(ValueError, match="Two packages have 'plain' among their views: hf_mlrpl and collections"):
        register("views", "plain", line)


def test_wrong_kinds_and_lines_are_errors():
    with pytest.raises(ValueError, match="Unknown kind 'method'. Did you mean 'methods'?"):
        register("method", "mine", MethodSpec("a:B", ""))
    with pytest.raises(TypeError, match="A line of methods must be of the type MethodSpec"):
        register("methods", "mine", Entry("a:B", ""))


@pytest.mark.parametrize("name", ["x" * 10**6, [["y"] * 1000] * 1000, {"a": {"b": "c" * 10**6}}, 10**3000, None, []])
def test_a_name_that_is_none_is_shown_in_part(name):
    with pytest.raises(ValueError, match="Unknown method") as error:
        lookup(METHODS, name, "method")
    assert len(str(error.value)) < 800
