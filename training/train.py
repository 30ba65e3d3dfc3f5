"""Entry point for `accelerate launch` and `torchrun`; the same as `hf-mlrpl train`."""

import sys

from hf_mlrpl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
