"""Checkpoints of DualCoOp's authors as folders of ours, key by key."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...clip.converters import PromptConverter

if TYPE_CHECKING:
    from .modeling_dualcoop import DualCoOpForMultiLabelClassification


class DualCoOpConverter(PromptConverter):
    """`hf-mlrpl convert dualcoop`."""

    title = "DualCoOp"
    example = "hf-mlrpl convert dualcoop model_best.pth.tar dualcoop --clip clip-rn101 --labels coco.txt"

    def convert_checkpoint(
        self, arguments: argparse.Namespace, settings: dict[str, Any]
    ) -> "tuple[DualCoOpForMultiLabelClassification, list[str]]":
        return convert_dualcoop(
            Path(arguments.source),
            arguments.output,
            clip=arguments.clip,
            labels=arguments.labels,
            settings=settings,
        )


def convert_dualcoop(
    file: Path, output: Path, *, clip: str, labels: Path, settings: dict[str, Any]
) -> "tuple[DualCoOpForMultiLabelClassification, list[str]]":
    """Write a checkpoint of DualCoOp's authors to the folder `output`.

    Args:
        clip: the CLIP model that it was trained from, see `read_clip`.
        labels: a file with the label names in the order of training, one a line.
        settings: of the model, where the defaults are not right.

    Returns:
        The model, and the names in the file that were not used.
    """
    from ...clip.authors_checkpoint import AuthorsCheckpoint
    from ...clip.convert_clip import check_output
    from .modeling_dualcoop import DualCoOpForMultiLabelClassification

    check_output(output)
    checkpoint = AuthorsCheckpoint.read(file, clip, labels, needed="prompt_learner.ctx_pos")
    context = checkpoint["prompt_learner.ctx_pos"]
    model = checkpoint.build(
        DualCoOpForMultiLabelClassification,
        settings,
        num_context=context.shape[-2],
        context_per_label=context.ndim == 3,
    )
    used = []
    for learner, kind in ((model.negative_prompts, "neg"), (model.positive_prompts, "pos")):
        names = f"prompt_learner.ctx_{kind}", f"prompt_learner.token_suffix_{kind}"
        checkpoint.fill_prompts(learner, model, *names)
        used.append(names[0])
    return model, checkpoint.save(model, output, used)
