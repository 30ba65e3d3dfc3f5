"""`python -m hf_mlrpl` is the command `hf-mlrpl`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
