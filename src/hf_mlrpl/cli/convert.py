"""`hf-mlrpl convert`: published weights as folders of ours."""

import argparse
from pathlib import Path
from typing import Any

_CLIP = """\
Convert both towers of a CLIP model, once, into a folder that recipes and `convert` can use:

  hf-mlrpl convert clip RN50.pt clip-rn50 --tokenizer bpe_simple_vocab_16e6.txt.gz
  hf-mlrpl train RECIPE model.pretrained=clip-rn50

What can be converted, by content:
  OpenAI's files                  TorchScript archives (RN50.pt, ViT-B-16.pt, ...), or their state dicts
  open_clip's files               .safetensors, .bin or .pt; they need --activation
  a folder, or a name on the Hub  a CLIPModel of transformers (ViTs), or open_clip's layout (open_clip_config.json),
                                  for example timm/resnet50_clip.openai
Numbers in half precision become float32. Sizes follow from the tensors. All weights must be there, and no others.
"""

_CLIP_EPILOG = """\
What is trusted: nothing of a file is run. PyTorch files are read with weights_only=True; of a TorchScript archive only
the tensors are read, and a name in it that is none of a tensor or of its own classes is an error. Safetensors and JSON
hold no code. Whether the numbers are those of the authors is for you to know: compare the checksum that they publish.
"""


_TITLES = {"scpnet": "SCPNet", "dualcoop": "DualCoOp"}
_PROMPTS = """\
Convert a checkpoint that the authors' code of {method} has written. It lacks CLIP's token embeddings and tokenizer;
these come from the CLIP model that it was trained from, converted with `hf-mlrpl convert clip`.

  {example}

The label names must be those of training in their order; they are compared with the words in the checkpoint.
KEY=VALUE are settings of the model, as in a recipe; what follows from the checkpoint cannot be set. Names that are not
used are printed. Nothing in the file is run: it is read with weights_only=True.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert published weights of CLIP, SCPNet and DualCoOp",
        description="Convert published weights into folders that `hf-mlrpl` reads. Each kind has its own --help.",
    )
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    clip = kinds.add_parser(
        "clip",
        help="both towers of CLIP: OpenAI, open_clip, transformers",
        description=_CLIP,
        epilog=_CLIP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    clip.add_argument("source", metavar="FILE", help="weights: a file, a folder, or a name on the Hub")
    clip.add_argument("output", metavar="OUT", type=Path, help="folder to write")
    clip.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="OpenAI's bpe_simple_vocab_16e6.txt.gz, a merges.txt, a tokenizer.json, or a folder with one (default: "
        "that of the folder with the weights; files have none)",
    )
    clip.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu"),
        help="of the transformers. OpenAI's files and all folders tell it; other files do not: quick_gelu for weights "
        "of OpenAI and models of open_clip with quickgelu in their names, gelu for the others",
    )
    clip.set_defaults(run=run_clip)
    examples = {
        "scpnet": "hf-mlrpl convert scpnet model-highest.ckpt scpnet-coco --clip clip-rn50 --labels coco.txt \\\n"
        "    --relation relation+coco.npy prior_top_k=62",
        "dualcoop": "hf-mlrpl convert dualcoop model_best.pth.tar dualcoop --clip clip-rn101 --labels coco.txt",
    }
    for method, example in examples.items():
        kind = kinds.add_parser(
            method,
            help=f"a checkpoint of the authors of {_TITLES[method]}",
            description=_PROMPTS.format(method=_TITLES[method], example=example),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        kind.add_argument("source", metavar="FILE", type=Path, help="checkpoint of the authors' code")
        kind.add_argument("output", metavar="OUT", type=Path, help="folder to write")
        kind.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the model, such as scale=10")
        kind.add_argument(
            "--clip", required=True, metavar="FOLDER", help="converted CLIP model, or its name on the Hub"
        )
        kind.add_argument("--labels", required=True, type=Path, metavar="FILE", help="label names, one a line")
        if method == "scpnet":
            kind.add_argument(
                "--relation",
                type=Path,
                metavar="FILE",
                help="similarity of the labels, .npy or .safetensors (default: cosines of CLIP's text features)",
            )
        kind.set_defaults(run=run_checkpoint, method=method)


def run_clip(arguments: argparse.Namespace) -> None:
    from transformers.utils import logging

    from ..clip.convert_clip import convert_clip

    logging.disable_progress_bar()
    towers = convert_clip(
        arguments.source, arguments.output, tokenizer=arguments.tokenizer, activation=arguments.activation
    )
    config = towers.config
    height, width = config.height_and_width
    millions = sum(parameter.numel() for parameter in towers.parameters()) / 1e6
    print(f"{config.backbone}: {millions:.1f} million weights, vectors of {config.embed_dim}, {config.hidden_act}")
    print(f"  images of {width} x {height}: {_sizes(config.vision_sizes)}")
    print(f"  texts: {_sizes(config.text_sizes)}")
    print(f"wrote {arguments.output}: {', '.join(sorted(file.name for file in arguments.output.iterdir()))}")
    if not towers.has_tokenizer:
        print(
            "There is no tokenizer, so words cannot be read. Convert again with --tokenizer, or put CLIP's "
            f"tokenizer.json into {arguments.output}."
        )


def run_checkpoint(arguments: argparse.Namespace) -> None:
    from transformers.utils import logging

    from ..methods.convert_checkpoint import convert_dualcoop, convert_scpnet
    from ..settings import parse_yaml

    logging.disable_progress_bar()
    settings = {}
    for setting in arguments.settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"A setting must look like key=value, got {setting!r}.")
        settings[key.removeprefix("model.")] = parse_yaml(value, setting)
    common: dict[str, Any] = {"clip": arguments.clip, "labels": arguments.labels, "settings": settings}
    model: Any
    if arguments.method == "scpnet":
        model, unused = convert_scpnet(arguments.source, arguments.output, relation=arguments.relation, **common)
    else:
        model, unused = convert_dualcoop(arguments.source, arguments.output, **common)
    config = model.config
    contexts = "a context for each label" if config.context_per_label else "one context"
    title = _TITLES[arguments.method]
    print(f"{title}: {config.num_labels} labels, {config.backbone}, {contexts} of {config.num_context} tokens")
    print(f"not used: {', '.join(unused) or 'nothing'}")
    print(f"wrote {arguments.output}: {', '.join(sorted(file.name for file in arguments.output.iterdir()))}")


def _sizes(sizes: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())
