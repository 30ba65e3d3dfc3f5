"""Checkpoints of SCPNet's authors as folders of ours, key by key."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...clip.converters import PromptConverter

if TYPE_CHECKING:
    from .modeling_scpnet import ScpnetForMultiLabelClassification

UNTRAINED = 1e-3  # a scale that nobody trained is closer than this to that of CLIP, averaged weights included


class ScpnetConverter(PromptConverter):
    """`hf-mlrpl convert scpnet`."""

    title = "SCPNet"
    example = """\
hf-mlrpl convert scpnet model-highest.ckpt scpnet-coco --clip clip-rn50 --labels coco.txt \\
    --relation relation+coco.npy prior_top_k=62"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--relation",
            type=Path,
            metavar="FILE",
            help="similarity of the labels, .npy or .safetensors (default: cosines of CLIP's text features)",
        )

    def convert_checkpoint(
        self, arguments: argparse.Namespace, settings: dict[str, Any]
    ) -> "tuple[ScpnetForMultiLabelClassification, list[str]]":
        return convert_scpnet(
            Path(arguments.source),
            arguments.output,
            clip=arguments.clip,
            labels=arguments.labels,
            relation=arguments.relation,
            settings=settings,
        )


def convert_scpnet(
    file: Path, output: Path, *, clip: str, labels: Path, relation: Path | None = None, settings: dict[str, Any]
) -> "tuple[ScpnetForMultiLabelClassification, list[str]]":
    """Write a checkpoint of SCPNet's authors to the folder `output`.

    Args:
        clip: the CLIP model that it was trained from, see `read_clip`.
        labels: a file with the label names in the order of training, one a line.
        relation: the similarity of the labels that it was trained with, a `.npy` or `.safetensors` file; by default
            it is computed from CLIP's text features, as other labels always are.
        settings: of the model, where the defaults, which are those of COCO, are not right.

    Returns:
        The model, and the names in the file that were not used.
    """
    from ...clip.authors_checkpoint import AuthorsCheckpoint
    from ...clip.convert_clip import check_output
    from ...clip.weights import SCALE
    from .modeling_scpnet import ScpnetForMultiLabelClassification

    check_output(output)
    checkpoint = AuthorsCheckpoint.read(file, clip, labels, needed="prompt_learner.ctx")
    context = checkpoint["prompt_learner.ctx"]
    graph = sorted(name for name in checkpoint.tensors if name.startswith("gc"))
    used = ["prompt_learner.ctx", *graph]
    original_scale = checkpoint.original.weights.tensors[SCALE]
    is_learned = bool((checkpoint["logit_scale"] - original_scale).abs() > UNTRAINED)
    prior = {} if relation is None else {"prior": str(relation)}
    if settings.get("prior") == "images":
        raise ValueError(
            "`prior: images` needs the training images, which are not here. Give the similarity of the labels that "
            "the checkpoint was trained with, `--relation FILE`."
        )
    model = checkpoint.build(
        ScpnetForMultiLabelClassification,
        {"image_size": checkpoint.clip.weights.config.image_size, **settings},
        num_context=context.shape[-2],
        context_per_label=context.ndim == 3,
        graph_layers=len(graph),
        graph_dim=checkpoint["gc1.weight"].shape[1],
        learn_scale=is_learned,
        adjacency="graph",
        image_network=None,
        **prior,
    )
    if relation is not None:
        model.config.prior = "clip"  # which knows other labels, too
    checkpoint.fill_prompts(model.prompts, model, "prompt_learner.ctx", "prompt_learner.token_suffix")
    model.graph_network.load_state_dict({f"layers.{i}.weight": checkpoint[name] for i, name in enumerate(graph)})
    if is_learned:
        model.log_scale.data.copy_(checkpoint["logit_scale"])
        used.append("logit_scale")
    return model, checkpoint.save(model, output, used)
