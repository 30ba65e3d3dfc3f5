"""`hf-mlrpl doctor`: what is installed, what this machine has, and what looks wrong."""

import argparse
import json
from typing import Any

from .train import add_recipe_arguments

_DESCRIPTION = """\
Say what is installed, what this machine has, where files go, and what looks wrong. With a recipe also what its network
sees: the size of the feature map, without loading data or weights. Ends with exit code 1 if something looks wrong.
"""

_EPILOG = """\
examples:
  hf-mlrpl doctor
  hf-mlrpl doctor my_photos.yaml model.image_size=224
  torchrun --nproc_per_node 8 -m hf_mlrpl doctor         whether all processes and GPUs are there
  hf-mlrpl doctor --json > report.json                   to attach to an issue; it holds no token
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what is installed and what looks wrong",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; the exit code is 1 if something looks wrong."""
    from .doctor_machine import examine_machine, is_alone, is_main_process
    from .doctor_places import examine_places
    from .doctor_recipe import examine_recipe
    from .doctor_software import are_usable, examine_extras, examine_packages

    problems: list[str] = []
    report: dict[str, Any] = {"packages": examine_packages(problems), "extras": examine_extras()}
    if are_usable(problems):  # otherwise nothing else can be found out
        report |= {"machine": examine_machine(problems), "places": examine_places(problems)}
        if arguments.recipe is not None:
            report["recipe"] = examine_recipe(arguments, problems)
        if not is_main_process():
            return 0
    report["problems"] = problems
    if arguments.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(report)
    return 1 if problems and is_alone() else 0  # launchers would print a page about it


def _show(report: dict[str, Any]) -> None:
    width = max(len(name) for section in report.values() if isinstance(section, dict) for name in section)
    for title, section in report.items():
        if isinstance(section, dict):
            print(f"{title}:")
            for name, value in section.items():
                print(f"  {name:<{width}}  {_in_words(value)}")
    if "recipe" not in report:
        print("\n`hf-mlrpl doctor RECIPE` looks at a recipe, too.")
    problems = report["problems"]
    print("\nlooks wrong:" if problems else "\nnothing looks wrong")
    for problem in problems:
        print(f"  - {problem}")


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
