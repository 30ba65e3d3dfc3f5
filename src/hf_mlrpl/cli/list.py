"""`hf-mlrpl list`: what there is."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("list", help="show methods, data sets, protocols, views and recipes")
    kinds = ("methods", "datasets", "protocols", "views", "recipes")
    parser.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=f"only one of: {', '.join(kinds)}")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..recipe.shipped import recipe_names
    from ..registry import DATASETS, METHODS, PROTOCOLS, VIEWS

    tables = {
        "methods": {name: spec.summary for name, spec in METHODS.items()},
        "datasets": {name: entry.summary for name, entry in DATASETS.items()},
        "protocols": {"none": "labels stay as they are"} | {name: entry.summary for name, entry in PROTOCOLS.items()},
        "views": {name: entry.summary for name, entry in VIEWS.items()},
        "recipes": dict.fromkeys(recipe_names(), ""),
    }
    for kind, table in tables.items():
        if arguments.kind in (None, kind):
            print(f"{kind}:")
            width = max((len(name) for name in table), default=0)
            for name, summary in table.items():
                print(f"  {name:<{width}}  {summary}".rstrip())
