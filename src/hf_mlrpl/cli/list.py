"""`hf-mlrpl list`: what there is."""

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "list", help="show methods, data sets, protocols, views, recipes, sweeps and tables of papers"
    )
    kinds = ("methods", "datasets", "protocols", "views", "recipes", "sweeps", "papers")
    parser.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=f"only one of: {', '.join(kinds)}")
    parser.add_argument("--markdown", action="store_true", help="papers: as a document in Markdown")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.kind == "papers":
        from .papers import print_papers

        return print_papers(markdown=arguments.markdown)
    if arguments.markdown:
        raise ValueError("`--markdown` belongs to `hf-mlrpl list papers`.")
    from ..hub.shipped import recipe_files, sweep_files
    from ..registry import REGISTRIES

    tables = {kind: {name: line.summary for name, line in lines.items()} for kind, lines in REGISTRIES.items()}
    tables["protocols"] = {"none": "labels stay as they are"} | tables["protocols"]
    tables["recipes"] = dict.fromkeys(recipe_files(), "")
    tables["sweeps"] = dict.fromkeys(sweep_files(), "")
    for kind, table in tables.items():
        if arguments.kind in (None, kind):
            print(f"{kind}:")
            width = max((len(name) for name in table), default=0)
            for name, summary in table.items():
                print(f"  {name:<{width}}  {summary}".rstrip())
