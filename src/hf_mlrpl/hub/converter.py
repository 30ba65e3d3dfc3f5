"""Base of the converters of published weights, the kinds of `hf-mlrpl convert`."""

import argparse


class Converter:
    """Makes a folder of ours from published weights.

    A method names its converter in the registry. The module of one is imported for its `--help`, too, so it imports
    what is heavy inside `convert`.

    description, epilog: text of the help.
    """

    description: str
    epilog: str | None = None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what is needed beside `source`, a file, a folder or a name on the Hub, and `output`, a new folder."""

    def convert(self, arguments: argparse.Namespace) -> list[str]:
        """Write the folder; returns lines that say what was found."""
        raise NotImplementedError(f"{type(self).__name__} must define `convert`.")
