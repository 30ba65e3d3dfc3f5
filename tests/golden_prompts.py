"""Models of the golden files with prompts, whose towers are those of `clip_resnet`."""

import torch
from golden_files import Golden, golden
from tiny_clip import golden_weights
from torch import Tensor, nn

from hf_mlrpl.clip.configuration_clip import ClipConfig
from hf_mlrpl.clip.modeling_clip import ClipPromptModel
from hf_mlrpl.clip.prompts import spoken
from hf_mlrpl.clip.weights import openai_place

TOWERS = "clip_resnet"


class GoldenTokenizer:
    """The tokenizer of a golden file with prompts: it knows its label names, and the words in front of them.

    Args:
        token_ids: `(num_labels, context_length)`: start, context, name, period, end, and padding.
    """

    def __init__(self, names: list[str], token_ids: Tensor, num_context: int, context_words: str = ""):
        self.texts = {}
        for name, row in zip(names, token_ids, strict=True):
            start, *words = row[: int(row.argmax()) + 1].tolist()
            self.texts[f"{spoken(name)}."] = [start, *words[num_context:]]
            self.texts[context_words] = words[:num_context]

    def __call__(self, texts: list[str] | str, add_special_tokens: bool = True) -> dict[str, list]:
        """Label names are asked for with start and end, the context without them."""
        assert add_special_tokens == isinstance(texts, list)
        return {"input_ids": self.texts[texts] if isinstance(texts, str) else [self.texts[text] for text in texts]}

    def get_vocab(self) -> dict[str, int]:
        return {f"token {number}": number for tokens in self.texts.values() for number in tokens}


def golden_model(model_class: type[ClipPromptModel], file: Golden, dtype: torch.dtype, **settings) -> ClipPromptModel:
    """A model for the labels of `file` with golden towers, without prompts yet.

    It is in training mode, in which gradients reach the text side, but for its batch norms.
    """
    weights = golden_weights(golden(TOWERS), dtype)
    names = file.hparams["classnames"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    sizes = {name: getattr(weights.config, name) for name in ("backbone", "vision_sizes", "text_sizes", "embed_dim")}
    sizes["image_size"] = weights.config.image_size
    model = model_class(model_class.config_class(**sizes, **labels, **settings)).to(dtype)
    towers = weights.fitted_to(ClipConfig(**sizes), TOWERS)
    missing, unexpected = model.load_state_dict(towers, strict=False)
    assert unexpected == ["logit_scale"] and not any(
        name.startswith(("backbone.", "text_encoder.")) for name in missing
    )
    model.train().backbone.eval()
    return model


def tower_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Gradients of the towers as `grad.w.<name in OpenAI's code>`."""
    gradients = {}
    for name, parameter in model.named_parameters():
        if name.startswith(("backbone.", "text_encoder.")) and parameter.grad is not None:
            gradients[f"grad.w.{openai_place(name).name}"] = parameter.grad
    return gradients
