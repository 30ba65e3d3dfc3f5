"""Reading and comparing the golden files, see tests/golden/README.md.

With the environment variable `HF_MLRPL_GOLDEN` the tests read another folder: same file names and naming rules, other
sizes, seeds and sub-cases. So tests take sizes from `hparams` and the tensors, and iterate over `sub_cases`:

    @pytest.mark.golden
    @pytest.mark.parametrize("case", cases("sst_losses", "bce/"))
    def test_partial_bce(case):
        golden = Golden("sst_losses")
        tensors = golden.case(case)  # {"in.logits": ..., "out64.mean": ...}, prefix removed
        golden.check(f"{case}/out64.mean", actual)
"""

import functools
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

FOLDER = Path(os.environ.get("HF_MLRPL_GOLDEN", Path(__file__).parent / "golden"))

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}
# From the table of the README: logits of +-30 without clipping, where 1 - p cancels.
LOOSE_FLOAT32 = {"losses_basic": 2e-4, "losses_single_positive": 1e-4}
# Tensors with smaller values are compared as if their largest value was this. A gradient of 1e-3 is a sum of terms
# near 1 that cancel: float32 cannot give it to five digits, float64 can.
SMALLEST_SCALE = {torch.float64: 0.0, torch.float32: 0.1}
NOISE = 1e-9  # references below are rounding errors of an exact zero (1e-14 at most, true values are above 1e-4)


class Golden:
    """One golden file.

    path: Where it lies.
    hparams: The sizes and settings it was made with.
    tensors: All tensors by full name, `sub-case/out.x`.
    """

    def __init__(self, name: str):
        self.name = name
        self.path = FOLDER / f"{name}.safetensors"
        if not self.path.is_file():
            raise FileNotFoundError(f"Golden file {self.path} is missing. `HF_MLRPL_GOLDEN` names the folder.")
        self.hparams, self.tensors = _read(self.path)

    def sub_cases(self, prefix: str = "") -> list[str]:
        """Sorted names before the last `/` that start with `prefix`; "" stands for tensors without a sub-case."""
        names = {name.rpartition("/")[0] for name in self.tensors}
        return sorted(name for name in names if f"{name}/".startswith(prefix))

    def case(self, sub_case: str = "") -> dict[str, Tensor]:
        """Tensors of one sub-case, without its prefix."""
        prefix = f"{sub_case}/" if sub_case else ""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
        }

    def weights(self, sub_case: str = "", dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """The tensors `w.*` of one sub-case without `w.`, in `dtype`."""
        tensors = self.case(sub_case).items()
        return {name.removeprefix("w."): w.to(dtype) for name, w in tensors if name.startswith("w.")}

    def outputs(self, sub_case: str = "") -> set[str]:
        """Full names of everything that a re-computation has to reach: `out.*`, `out64.*` and `grad.*`."""
        prefix = f"{sub_case}/" if sub_case else ""
        return {prefix + name for name in self.case(sub_case) if name.startswith(("out.", "out64.", "grad."))}

    def check(self, name: str, actual: Tensor) -> None:
        """Compare `actual` with the stored tensor of this full name; its type decides the tolerance."""
        tolerance = LOOSE_FLOAT32.get(self.name) if actual.dtype == torch.float32 else None
        assert_close(actual, self.tensors[name], actual.dtype, f"{self.name} {name}", tolerance)


@functools.cache
def golden(name: str) -> Golden:
    """The golden file `name`, read once; its tensors must not be changed in place."""
    return Golden(name)


def sub_cases(name: str, prefix: str = "") -> list[str]:
    """Names of the sub-cases of the golden file `name` that start with `prefix`."""
    return golden(name).sub_cases(prefix)


def cases(name: str, prefix: str = "") -> list:
    """Sub-cases as parameters of `pytest.mark.parametrize`, with the id `name` or `name-sub_case`."""
    return [pytest.param(case, id=f"{name}-{case}" if case else name) for case in sub_cases(name, prefix)]


def assert_close(
    actual: Tensor, expected: Tensor, dtype: torch.dtype, what: str = "", tolerance: float | None = None
) -> None:
    """Fail unless `actual`, computed in `dtype`, equals `expected` up to the tolerance of `dtype`.

    The error is the largest difference over the largest finite reference value. Shapes, NaN and infinite entries must
    agree exactly; and so must all entries where `dtype` is an integer or boolean type.
    """
    actual = torch.as_tensor(actual).detach().cpu()
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if not dtype.is_floating_point:
        assert torch.equal(actual.to(torch.int64), expected.to(torch.int64)), f"{what}: integers differ"
        return
    actual, expected = actual.double(), expected.double()
    finite = expected.isfinite()
    same = torch.equal(actual[~finite].nan_to_num(nan=1.0), expected[~finite].nan_to_num(nan=1.0))
    same_nan = torch.equal(actual.isnan(), expected.isnan())
    assert same and same_nan and actual[finite].isfinite().all(), f"{what}: NaN or infinite entries differ"
    if not finite.any():
        return
    largest = expected[finite].abs().max().item()
    scale = 1.0 if largest < NOISE else max(largest, SMALLEST_SCALE[dtype])
    error = (actual - expected)[finite].abs().max().item() / scale
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    assert error <= tolerance, f"{what}: relative error {error:.2e} in {dtype}, allowed {tolerance:.0e}"


@functools.cache
def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        return json.loads(metadata.get("hparams", "{}")), {name: file.get_tensor(name) for name in file.keys()}
