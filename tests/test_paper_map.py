"""Pages, recipes and code agree: symbols, equations, commands and published numbers."""

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hf_mlrpl.cli.main import COMMANDS, parse_arguments
from hf_mlrpl.cli.train import load_recipe
from hf_mlrpl.hub.shipped import page_of, recipe_files
from hf_mlrpl.recipe.document import Recipe
from hf_mlrpl.registry import METHODS, PACKAGE

ROOT = Path(__file__).parents[1]
PAGES = {method: page_of(method) for method, spec in METHODS.items() if spec.package == PACKAGE}
UNIQUE_PAGES = dict.fromkeys(PAGES.values())
PAGES_WITHOUT_METHOD = [ROOT / "model_cards" / "clip.md"]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "training").glob("*.md")), *UNIQUE_PAGES]
LIST_OF_METHODS = ROOT / "model_cards" / "README.md"
DOCUMENTS += [*PAGES_WITHOUT_METHOD, LIST_OF_METHODS]
DATA_NAMES = {  # as the pages call them
    "coco": "COCO 2014",
    "coco_panoptic": "COCO panoptic",
    "vg200": "VG-200",
    "nus_wide": "NUS-WIDE",
    "cub": "CUB",
    "openimages": "OpenImages v5",
    "cifar100": "CIFAR-100",
}
RECIPES = recipe_files()
PAGE_SECTIONS = [
    "Using it",
    "Training it",
    "Paper to code",
    "Differences",
    "Errata",
    "Memory",
    "Ablations",
    "Published and measured",
    "Citation",
]
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LAUNCHED = re.compile(r"hf-mlrpl (?=\S)|(?:accelerate launch|torchrun) .*?-m hf_mlrpl (?=\S)")


def _section(page: Path, title: str) -> str:
    text = page.read_text(encoding="utf-8")
    assert f"\n### {title}\n" in text, f"{page.name} has no section {title!r}"
    return text.partition(f"\n### {title}\n")[2].partition("\n### ")[0]


def _rows(table: str) -> list[list[str]]:
    """Cells of the rows of the Markdown tables in `table`, without the rules below the headers."""
    lines = [line for line in table.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _find(path: str) -> Any:
    """The object at `module.Class.attribute`, relative to `hf_mlrpl`."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module("hf_mlrpl." + ".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"hf_mlrpl has no {path}")


# ---- paper to code ----


def test_the_list_of_methods_has_them_all_with_their_pages():
    rows = [row for row in _rows(LIST_OF_METHODS.read_text(encoding="utf-8")) if row[0] != "`method`"]
    listed = {name: pages for names, _, pages in rows for name in INLINE_CODE.findall(names)}
    assert {method for method, pages in listed.items() if f"]({PAGES[method].name})" in pages} == set(PAGES)


@pytest.mark.parametrize("method", PAGES)
def test_symbols_of_the_page_exist_and_name_their_equations(method):
    unnamed = []
    for paper, code in _rows(_section(PAGES[method], "Paper to code"))[1:]:
        symbol = _find(code.strip("`"))
        first_line = (inspect.getdoc(symbol) or "").partition("\n")[0]
        for number in re.findall(r"Eq\. \d+", paper):
            exact = re.escape(number) + r"(?!\d)"
            if not re.search(exact, first_line) and not re.search(r"# .*" + exact, inspect.getsource(symbol)):
                unnamed.append((code, number))
    assert not unnamed


@pytest.mark.parametrize("method", PAGES)
def test_every_equation_in_the_code_of_a_method_is_on_its_page(method):
    module = import_module(METHODS[method].objective.partition(":")[0], PACKAGE)
    in_code = set(re.findall(r"Eq\. \d+", inspect.getsource(module)))
    on_page = set(re.findall(r"Eq\. \d+", _section(PAGES[method], "Paper to code")))
    assert in_code <= on_page


# ---- pages ----


@pytest.mark.parametrize("method", PAGES)
def test_page_has_all_sections_below_the_headings_of_a_card(method):
    text = PAGES[method].read_text(encoding="utf-8")
    assert text.startswith("## ")
    assert re.findall(r"^### (.*)$", text, flags=re.MULTILINE) == PAGE_SECTIONS
    assert not re.search(r"^# ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)


def test_template_has_the_sections_of_the_pages():
    text = (ROOT / "model_cards" / "_template.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (.*)$", text, flags=re.MULTILINE) == PAGE_SECTIONS


@pytest.mark.parametrize("method", PAGES)
def test_overrides_on_the_page_are_settings_of_the_method(method):
    """In tables and sentences, `section.key=value` is something that a recipe accepts."""
    of_method = [name for name in RECIPES if name.startswith(f"{method}/")]
    recipe = next((name for name in of_method if "/coco2014" in name), of_method[0])
    groups = re.findall(
        r"`((?:data|model|objective|training)\.[^`]+=[^`]+)`", PAGES[method].read_text(encoding="utf-8")
    )
    assert groups
    for group in groups:
        Recipe.load(recipe, shlex.split(group))


# ---- recipes ----


@pytest.mark.parametrize("method", PAGES)
def test_method_has_a_recipe(method):
    assert any(name.startswith(f"{method}/") for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_lies_in_the_folder_of_its_method_and_has_the_published_numbers_in_its_header(name):
    """Those of its method and data on the page, at every proportion; the built-in scenes have none.

    Where there is no table of proportions, the header has the one number that the page gives for the data, in the line
    of the method where a page has several. Where nothing was published for the data and the protocol, it says
    "Published: none".
    """
    recipe = Recipe.load(name)
    assert recipe.method == name.partition("/")[0]
    header = _header(RECIPES[name])
    assert header, f"{name} begins without a comment that says what it is"
    data = (DATA_NAMES | {"voc": f"VOC {recipe.data.settings.get('year', '2007')}"}).get(recipe.data.settings["name"])
    published = _section(PAGES[recipe.method], "Published and measured")
    row = f"{data}, frozen image encoder" if recipe.model.settings.get("trainable_backbone") == [] else data
    rows = [cells for cells in _rows(published) if cells[0] == row and len(cells) > 10]
    if data is None:
        assert recipe.data.settings["name"] not in published
    elif "Published: none" in header:
        assert not (rows and "proportion" in recipe.data.settings)
    elif rows and "proportion" in recipe.data.settings:
        (numbers,) = rows
        assert re.findall(r"\d\d\.\d", header.partition("published mAP")[2])[:9] == numbers[1:10]
        assert numbers[1] in header.partition("\n#   ")[0]
    else:
        number = re.search(r"Published test mAP: (\d\d\.\d)", header)
        of_method = [line for line in published.splitlines() if f"(`{recipe.method}`)" in line] or [published]
        assert number and f"{data} {number[1]}" in of_method[0]


def _header(recipe: Path) -> str:
    lines = recipe.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


# ---- commands ----


def _commands() -> dict[str, list[str]]:
    """The commands of each document and recipe header."""
    texts = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in DOCUMENTS}
    lines = [(where, line) for where, text in texts.items() for line in _command_lines(text)]
    for name, path in RECIPES.items():
        header = _header(path).removeprefix("#").replace("\n#", "\n")
        lines += [(name, line) for line in [*header.splitlines(), *INLINE_CODE.findall(header)] if "`" not in line]
    matches = [(where, line, LAUNCHED.search(line)) for where, line in lines]
    commands: dict[str, list[str]] = {}
    for where, line, match in matches:
        if match:
            commands.setdefault(where, []).append(line[match.start() :].strip())
    return commands


def _command_lines(text: str) -> list[str]:
    """Lines of shell blocks, and code within sentences."""
    text = text.replace("\\\n", " ")
    blocks = [block for language, block in CODE_BLOCK.findall(text) if language in ("", "bash", "sh")]
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return lines + INLINE_CODE.findall(CODE_BLOCK.sub("", text))


@pytest.mark.parametrize(("where", "commands"), _commands().items())
def test_commands_in_the_documentation_work(where, commands):
    wrong = {}
    for command in commands:
        try:
            _check(shlex.split(command, comments=True))
        except (SystemExit, ValueError, OSError) as error:
            wrong[command] = error
    assert not wrong, where


def _check(words: list[str]) -> None:
    """Raise an error if the recipe or the arguments of a command are wrong."""
    if words[0] == "hf-mlrpl":
        words = words[1:]
    else:
        words = words[words.index("hf_mlrpl") + 1 :]
    if len(words) == 1 and words[0] in COMMANDS:  # the name of a command in a sentence
        return
    if words == ["--help"] or words[1:] == ["--help"]:
        with pytest.raises(SystemExit) as stop:
            parse_arguments(words)
        assert stop.value.code == 0
        return
    arguments = parse_arguments(words)
    yours = str(getattr(arguments, "recipe", "")).endswith(".yaml") and not Path(arguments.recipe).is_absolute()
    if words[0] == "train" and not (yours and not (ROOT / arguments.recipe).is_file()):
        if yours:
            arguments.recipe = str(ROOT / arguments.recipe)
        load_recipe(arguments)


def test_commands_are_found():
    """The tests above look at something."""
    places = _commands().keys()
    assert set(RECIPES) - {name for name in RECIPES if "digit_scenes" in name} <= places
    assert {page.relative_to(ROOT).as_posix() for page in UNIQUE_PAGES} <= places
