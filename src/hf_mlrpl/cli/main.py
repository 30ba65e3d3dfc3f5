"""The command `hf-mlrpl`. Heavy imports happen inside the command that runs."""

import argparse
import errno
import logging
import os
import sys
from importlib import import_module

from ..allocator import keep_freed_memory
from ..extras import optional_packages
from ..faults import advice_of

TRACEBACK = "--traceback"
MISTAKES = (ValueError, OSError, RuntimeError, ImportError)  # our messages for what a user can mend
COMMANDS = (
    *("train", "evaluate", "tag", "demo", "push", "data", "review", "neighbours", "list", "sweep", "picture"),
    *("convert", "export", "doctor"),
)

_EPILOG = """\
Two commands to start with:
  hf-mlrpl train                        train the built-in example, two to three minutes on a laptop
  hf-mlrpl tag runs/sst-digit_scenes_30 runs/sst-digit_scenes_30/examples

`hf-mlrpl doctor` says what is installed, what this machine has, and what looks wrong.
"""


# Between two small operations the threads of OpenMP spin by default, and take the cores from the work of others. Read
# when torch is imported, so it stands here, where all commands begin; what the environment says is stronger.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line; settings may stand before and behind options.

    A command whose arguments depend on the registry adds them by its default `complete`, when it is called.
    """
    parser, rest = build_parser(), list(argv)
    while rest and rest[0] in _commands_of(parser):
        parser = _commands_of(parser)[rest.pop(0)]
        if complete := parser.get_default("complete"):
            complete(parser)
    return parser.parse_args(rest) if _commands_of(parser) else parser.parse_intermixed_args(rest)


def _commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    choices = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(choices, {})


def build_parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog="hf-mlrpl",
        description="Train, evaluate and use image taggers on photos of which only some labels are known.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(TRACEBACK, action="store_true", help="show where an error happened, with any command")
    parser.add_argument("--version", action="version", version=f"hf-mlrpl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        import_module(f"{__package__}.{command}").add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command. A mistake of the user ends as one line and the exit code 2, one of ours as one line and the exit
    code 1; `--traceback` or `HF_MLRPL_TRACEBACK=1` shows where it happened."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        build_parser().print_help()
        return 0
    keep_freed_memory()
    arguments = parse_arguments([argument for argument in argv if argument != TRACEBACK])
    if TRACEBACK in argv or os.environ.get("HF_MLRPL_TRACEBACK"):
        return arguments.run(arguments) or 0
    label_logger = logging.getLogger("hf_mlrpl.data.rows.labels")
    level = label_logger.level
    label_logger.setLevel(logging.ERROR)  # commands print these warnings with the summary of the labels
    try:
        with optional_packages():
            return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if isinstance(error, MISTAKES) and not isinstance(error, RecursionError | NotImplementedError):
            print(f"error: {str(error) or type(error).__name__}{_hint(error)}", file=sys.stderr)
            return 2
        reason = " ".join(str(error).split())[:300]
        print(
            f"error: an unexpected {type(error).__name__} ({reason}). This should have been a clear message: please "
            f"report it to the developers of hf-mlrpl, with the output of the same command and {TRACEBACK}.",
            file=sys.stderr,
        )
        return 1
    finally:
        label_logger.setLevel(level)


def _hint(error: Exception) -> str:
    """What to do where the system refuses something, such as the variable that moves a cache of Hugging Face."""
    advice = advice_of(error)
    hint = f". {advice}" if advice else ""
    file = str(getattr(error, "filename", None) or "")
    if getattr(error, "errno", None) not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC) or not file:
        return hint
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    caches = {name: os.environ[name] for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE") if os.environ.get(name)}
    caches["HF_HOME"] = home
    for name, folder in caches.items():
        inside = os.path.abspath(file) + os.sep
        if inside.startswith(os.path.abspath(folder) + os.sep) or os.path.abspath(folder).startswith(inside):
            return f". That is the cache of Hugging Face: set the variable {name} to a folder that can be written to"
    return hint


if __name__ == "__main__":
    sys.exit(main())
