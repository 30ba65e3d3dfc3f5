"""The pipeline "image-tagging": from photos to the labels they show."""

import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoModelForImageClassification, ImageClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from ..data.images.photos import DOWNLOAD_TIMEOUT, find_images, is_url, open_image
from ..models.attention_placement import AttentionPlacement
from ..models.configuration_utils import TAGGING_TASK as TASK
from ..models.image_processing import processor_for
from ..models.modeling_utils import MultiLabelPreTrainedModel
from ..settings import did_you_mean

Thresholds = float | Mapping[str, float] | Sequence[float]


class ImageTaggingPipeline(ImageClassificationPipeline):
    """Finds the labels of images.

    ```python
    >>> import hf_mlrpl.auto
    >>> from transformers import pipeline

    >>> tagger = pipeline("image-tagging", model="runs/sst")
    >>> tagger("photo.jpg")
    [{'label': 'person', 'score': 0.98}, {'label': 'dog', 'score': 0.73}]
    ```

    Takes also checkpoints without `preprocessor_config.json`: the processor is then made from the model's config.
    """

    _load_image_processor: Any = None  # where a checkpoint has none, it is made from the config
    model: Any
    image_processor: Any

    def __init__(self, model: Any, *args: Any, labels: Sequence[str] | None = None, **kwargs: Any):
        """Wrap a model of this library.

        Args:
            labels: names that the model is asked about in the place of its own, where it reads names; it keeps them.
        """
        if labels is not None:
            if not hasattr(model, "set_labels"):
                raise ValueError(f"`labels` must be None for a {type(model).__name__}: its labels cannot change.")
            model.set_labels(labels)
        super().__init__(model, *args, **kwargs)
        if self.image_processor is None:
            self.image_processor = processor_for(self.model.config)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Tag one image, or many.

        Args:
            inputs: one image (a path, an http(s) address, a PIL image) gives one list of labels; a list of images, or
                a folder, gives a list of such lists, a folder in the order of `find_images`. A generator
                of images, or a `datasets.Dataset` with a column `image`, gives an iterator over them.
            threshold: score from which a label is returned: one number, a list with one per label, or a dict from
                label names to numbers (other labels keep the model's threshold). Without it, `config.thresholds`.
            top_k: return at most so many labels. `threshold=0.0` returns all of them.
            attention_maps: also return `attention_map` for every label: `(rows, columns)`, each value in [0, 1] and
                for its equal part of the photo, see `AttentionPlacement`.
            timeout: seconds to wait for a server.
            batch_size: images per forward pass.

        Returns:
            Per image a list of `{"label", "score"}`, the highest score first.
        """
        if isinstance(inputs, str | os.PathLike) and not is_url(inputs) and Path(inputs).is_dir():
            inputs = find_images(inputs)
        elif isinstance(inputs, tuple):
            inputs = list(inputs)
        elif hasattr(inputs, "cast_column"):
            inputs = _Rows(inputs)
        if isinstance(inputs, list | _Rows) and len(inputs) == 0:
            return []
        return super().__call__(inputs, **kwargs)

    @property
    def has_attention_maps(self) -> bool:
        """Whether the model attends to places of the image for each label."""
        if not hasattr(self.model, "represent"):
            return False
        blank = self.image_processor(torch.zeros(3, 8, 8, dtype=torch.uint8), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            return self.model.represent(self.model.encode(blank.to(self.device, self.dtype)))[1] is not None

    @cached_property
    def placement(self) -> AttentionPlacement:
        """Where the cells of attention maps look; measured once."""
        placement = AttentionPlacement.of(self.model, self.image_processor)
        assert placement is not None, "a model with attention maps has a feature map"
        return placement

    def check_model_type(self, supported_models: Any) -> None:
        """Models of this library are fit, whether the Auto classes know them yet or not."""
        if not isinstance(self.model, MultiLabelPreTrainedModel):
            super().check_model_type(supported_models)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish the model with the image processor of this pipeline; `options` are those of `model.push_to_hub`."""
        if isinstance(self.model, MultiLabelPreTrainedModel):
            options["processor"] = self.image_processor
            return self.model.push_to_hub(repo_id, **options)
        return super().push_to_hub(repo_id, **options)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        threshold: Thresholds | None = None,
        top_k: int | None = None,
        attention_maps: bool | None = None,
        timeout: float | None = None,
    ) -> tuple[dict, dict, dict]:
        preprocess: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        forward: dict[str, Any] = {} if attention_maps is None else {"attention_maps": attention_maps}
        postprocess: dict[str, Any] = {}
        if threshold is not None:
            postprocess["thresholds"], _ = self.chosen_by(threshold)
        if top_k is not None:
            _, postprocess["top_k"] = self.chosen_by(top_k=top_k)
        return preprocess, forward, postprocess

    def chosen_by(self, threshold: Thresholds | None = None, top_k: int | None = None) -> tuple[Tensor, int | None]:
        """What decides which labels are returned: one threshold per label, `(num_labels,)`, and their largest number.

        Args:
            threshold, top_k: as in `__call__`.
        """
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"`top_k` must be a whole number of at least 1, got {top_k!r}.")
        config = self.model.config
        default = getattr(config, "thresholds", 0.5)
        return label_thresholds(default if threshold is None else threshold, config), top_k

    def preprocess(self, image: Any, timeout: float = DOWNLOAD_TIMEOUT) -> dict[str, Any]:  # type: ignore[override]
        name = None
        if isinstance(image, Mapping) and "image" in image:  # a row of a data set
            image, name = image["image"], image.get("image_id")
        image = open_image(image, name, timeout=timeout)
        inputs = self.image_processor(images=image, return_tensors="pt").to(self.dtype)
        return {**inputs, "photo_size": torch.tensor([[image.height, image.width]])}

    def _forward(self, model_inputs: dict[str, Any], attention_maps: bool = False) -> Any:  # type: ignore[override]
        photo_size = model_inputs.pop("photo_size")
        if not attention_maps:
            return {"logits": self.model(**model_inputs).logits}
        maps = None
        if hasattr(self.model, "represent"):  # one of ours, which can be asked for maps
            outputs = self.model(**model_inputs, output_attention_maps=True)
            maps = outputs.attention_maps
        if maps is None:
            raise ValueError(f"`attention_maps` must be False for a {type(self.model).__name__}: it has no attention.")
        return {"logits": outputs.logits, "attention_maps": maps, "photo_size": photo_size}

    def postprocess(  # type: ignore[override]
        self, outputs: dict[str, Tensor], thresholds: Tensor | None = None, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        config = self.model.config
        if thresholds is None:
            thresholds, _ = self.chosen_by()
        scores = check_scores(outputs["logits"][0].float().sigmoid(), config)  # (C,)
        order = scores.argsort(descending=True, stable=True)
        chosen = order[scores[order] >= thresholds[order]][:top_k].tolist()
        tags = [{"label": config.id2label[i], "score": scores[i].item()} for i in chosen]
        if "attention_maps" in outputs:
            height, width = outputs["photo_size"][0].tolist()
            maps = self.placement.place(outputs["attention_maps"][0, chosen], (height, width))
            for tag, attention_map in zip(tags, maps, strict=True):
                tag["attention_map"] = attention_map
        return tags


class _Rows(Dataset):
    """Rows of a `datasets.Dataset` with undecoded images, so that a bad file is named by `open_image`."""

    def __init__(self, dataset: Any):
        from datasets import Image

        if "image" not in dataset.column_names:
            raise ValueError(f"The data set needs a column `image`, found {', '.join(dataset.column_names)}.")
        self.dataset = dataset.cast_column("image", Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = self.dataset[i]
        return {"image": row["image"], "image_id": f"row {i}" + (f", {row['image_id']}" if "image_id" in row else "")}


def check_scores(scores: Tensor, config: Any) -> Tensor:
    """`scores` themselves, if they are numbers."""
    if not scores.isfinite().all():
        raise ValueError(
            f"The model {config.name_or_path!r} gives scores that are no numbers. Its weights are damaged, or the "
            "numbers in its preprocessor_config.json."
        )
    return scores


def label_thresholds(threshold: Thresholds, config: Any) -> Tensor:
    """One threshold per label, `(num_labels,)`.

    Args:
        threshold: one number, a list with one number per label, or a dict from label names to numbers; labels that a
            dict does not name keep the threshold of `config`.
        config: of the model; `id2label` gives the names, `thresholds` the defaults.
    """
    names = [config.id2label[i] for i in range(config.num_labels)]
    if isinstance(threshold, Mapping):
        _check_names(threshold, names)
        defaults = label_thresholds(getattr(config, "thresholds", 0.5), config).tolist()
        threshold = [threshold.get(name, default) for name, default in zip(names, defaults, strict=True)]
    elif not isinstance(threshold, Sequence):
        threshold = [threshold] * len(names)
    if len(threshold) != len(names):
        raise ValueError(f"`threshold` must have one number for each of {len(names)} labels, got {len(threshold)}.")
    for name, value in zip(names, threshold, strict=True):
        if not isinstance(value, int | float) or not (0 <= value <= 1 or value == math.inf):  # inf: never
            raise ValueError(f"`threshold` must lie in [0, 1], got {value!r} for {name!r}. Fifty percent is 0.5.")
    return torch.tensor(threshold, dtype=torch.float32)


def register() -> None:
    """Make `transformers.pipeline("image-tagging", ...)` known; calling it again changes nothing."""
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK, ImageTaggingPipeline, pt_model=AutoModelForImageClassification, type="image"
        )
        del ImageTaggingPipeline._registered_impl  # type: ignore[attr-defined]  # with it, saving a pipeline would copy this module


def _check_names(threshold: Mapping[str, float], names: list[str]) -> None:
    unknown = [name for name in threshold if name not in names]
    if unknown:
        hint = did_you_mean(unknown[0], names)
        raise ValueError(f"`threshold` names {unknown[0]!r}, which the model does not know. {hint}")
