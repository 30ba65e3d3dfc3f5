"""The base of all models: three named stages, one forward, and a door for objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import timm
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, logging

from ..data.captions.caption_tokens import TOKENS
from ..data.columns import check_unique, label_names
from ..data.files import make_readable
from ..data.images.feature_files import StoredFeatures
from ..data.images.torch_dataset import PartialLabelImages
from ..data.images.training_images import TrainingImages
from ..data.images.views import normalized
from ..data.tables.from_dataset import in_our_columns
from ..distributed import state_digest
from ..faults import writing
from ..hub.publish import Destination, publish
from ..labels import NEGATIVE, POSITIVE, UNKNOWN, shorten
from ..losses import at_least_float32, partial_bce
from ..objective import Objective, ObjectiveOutput
from ..schedules import Progress
from .configuration_utils import MultiLabelConfig
from .image_processing import evaluation_view, processor_for
from .parts.backbone import Backbone
from .parts.partly_frozen import PartlyFrozen
from .priors.label_embeddings import normalized_name
from .warm_start import WarmStart, find_tagger, start_from

logger = logging.get_logger(__name__)

_PUSH_OPTIONS = ("repo_id", "private", "token", "revision", "commit_message")  # of `save_pretrained(push_to_hub=True)`


@dataclass
class MultiLabelOutput(ModelOutput):
    """Output of every model.

    loss: partial BCE over the known labels, when `labels` were given.
    logits: `(batch_size, num_labels)`; scores are their sigmoid.
    representations: one vector per label, `(batch_size, num_labels, dim)`, or `(batch_size, 1, dim)` where all labels
        share one, on request.
    attention_maps: `(batch_size, num_labels, height, width)`, on request.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    representations: Tensor | None = None
    attention_maps: Tensor | None = None


def check_finite(state: Mapping[str, Tensor], consequence: str) -> None:
    """Raise `ValueError` if some weights are infinite or NaN; waits for the device once."""
    numbers = {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()}
    finite = torch.stack([tensor.isfinite().all() for tensor in numbers.values()]).tolist()
    damaged = [name for name, is_finite in zip(numbers, finite, strict=True) if not is_finite]
    if damaged:
        raise ValueError(
            f"{len(damaged)} of {len(numbers)} weights are infinite or NaN ({shorten(damaged)}), {consequence} Train "
            "with a lower learning rate, or take earlier weights."
        )


class MultiLabelPreTrainedModel(PreTrainedModel):
    """Pixels to logits in three stages.

    A model has `encode` (pixels to features), `represent` (features to one vector per label) and `classify` (vectors
    to logits); `forward` composes them. With an `objective`, `forward` hands over to it, so that DDP, autocast and
    gradient accumulation see one ordinary forward pass, whatever a method does inside.

    Attributes:
        warm_start: what `load_pretrained` took from another tagger.
        prior_buffers: names of the buffers that derive from data and that training needs, see `set_priors`.
        encoder_weights: starts of the names of the weights that other networks with this backbone can take over.
    """

    config_class = MultiLabelConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    base_model_prefix = "model"
    accepts_loss_kwargs = False  # `forward` takes **views; the Trainer shall still divide by the accumulation steps
    _no_split_modules = ["Bottleneck", "BasicBlock"]
    prior_buffers: tuple[str, ...] = ()
    encoder_weights: tuple[str, ...] = ("backbone.",)
    warm_start: WarmStart | None = None
    _missing_priors: set[str]
    _zeros_are_checked = False
    _frozen_stamp: list[tuple[int, int]] | None = None
    _frozen_digest = ""

    config: MultiLabelConfig
    backbone: PartlyFrozen  # for `encode` and for subclasses only

    def normalize(self, pixel_values: Tensor) -> Tensor:
        """Bytes as the model was trained to see them; what is normalised already comes back as it is."""
        return normalized(pixel_values, self.config.image_mean, self.config.image_std)

    def encode(self, pixel_values: Tensor | StoredFeatures) -> Tensor:
        """Map `(batch_size, 3, height, width)` to features: a map `(batch_size, channels, map_height, map_width)`, or
        one vector per image, `(batch_size, channels)`. Of `StoredFeatures` it computes what is left to do."""
        return self.backbone(pixel_values)

    def encode_frozen(self, pixel_values: Tensor) -> Tensor:
        """The part of `encode` that is not trained; `encode` takes its result, as `StoredFeatures`, like pixels.

        Raises:
            ValueError: where the first parts of the backbone are trained.
        """
        return self.encode(pixel_values) if self.backbone.is_frozen else self.backbone.trunk(pixel_values)

    def frozen_settings(self) -> dict[str, Any]:
        """Settings and a digest of the weights that `encode_frozen` depends on."""
        weights = self.backbone.frozen_state()
        stamp = [(tensor.data_ptr(), tensor._version) for tensor in weights.values()]  # changes with the weights
        if stamp != self._frozen_stamp:
            self._frozen_stamp, self._frozen_digest = stamp, state_digest(weights)
        return self.encoder_settings(self._frozen_digest) | {
            "frozen_parts": self.backbone.frozen_parts,  # some have no weights
            "encode": type(self).encode.__qualname__,
            "versions": {package.__name__: package.__version__ for package in (torch, torchvision, timm)},
        }

    def represent(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map features to representations and attention maps.

        Returns:
            `(batch_size, num_labels, dim)`, or `(batch_size, 1, dim)` where all labels share one vector; and
            `(batch_size, num_labels, map_height, map_width)`, or `None` where a model has no attention.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `represent`.")

    def classify(self, representations: Tensor) -> Tensor:
        """Map representations to logits, `(batch_size, num_labels)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `classify`.")

    @classmethod
    def for_dataset(cls, dataset: Any, *, pretrained: bool | str = True, **settings: Any) -> Self:
        """A model to train on `dataset`: for its labels, with pretrained weights, and with its priors.

        Args:
            dataset: training images with their known labels, with the columns of this library, or any data set that
                `load_from_dataset` can read.
            pretrained: whether the model gets weights, or where they come from, see `load_pretrained`.
            settings: of `config_class`, such as `backbone` and `image_size`.
        """
        dataset = in_our_columns(dataset)
        config = cls.config_class.for_labels(label_names(dataset), **settings)
        images = PartialLabelImages(dataset, evaluation_view(config), image_size=config.height_and_width)
        return cls.for_training(config, images.labels, images, pretrained=pretrained)

    @classmethod
    def for_training(
        cls,
        config: MultiLabelConfig,
        labels: np.ndarray,
        images: PartialLabelImages | None = None,
        *,
        pretrained: bool | str = True,
        num_workers: int = 0,
    ) -> Self:
        """A model with pretrained weights and with its priors.

        Args:
            labels: the known training labels, `(num_images, num_labels)` in {-1, 0, +1}.
            images: the training images, which few priors come from.
            pretrained: whether the model gets weights, or where they come from, see `load_pretrained`.
            num_workers: worker processes that open images.
        """
        model = cls(config)
        if pretrained:
            model.load_pretrained(None if pretrained is True else pretrained)
        unread = None
        if images is not None:
            unread = TrainingImages(
                images, normalize=model.normalize, batch_size=64, num_workers=num_workers, show_progress=True
            )
        model.set_priors(labels, unread)
        return model

    def load_pretrained(self, source: str | None = None) -> None:
        """Bring pretrained weights into a new model.

        Args:
            source: a tagger of this library, as a folder or by its name on the Hub: see `models.warm_start`, whose
                report becomes `warm_start`; or what `load_published` takes.
        """
        tagger = None if source is None else find_tagger(source, self.config.earlier_model_type)
        if source is None or tagger is None:
            self.load_published(source)
        else:
            self.read_further_files(tagger)
            self.warm_start = start_from(self, tagger, source)

    def load_published(self, source: str | None = None) -> None:
        """Bring weights of others into the backbone: those that belong to it, or those of the file `source`, see
        `Backbone.load_weights`."""
        if not isinstance(self.backbone, Backbone):
            raise NotImplementedError(f"{type(self).__name__} must define `load_published`.")
        self.backbone.load_weights(source)

    def encoder_settings(self, weights: str | None = None) -> dict[str, Any]:
        """Settings and a digest of the weights that `encode` depends on, and how it wants its pixels: equal ones give
        equal features of an image. Stored features are known by them.

        Args:
            weights: a digest, by default that of the whole backbone.
        """
        config = self.config
        return {
            "backbone": config.backbone,
            "output_stride": config.output_stride,
            "feature_pool": config.feature_pool,
            "weights": weights or state_digest(self.backbone.state_dict()),
            "image_size": config.height_and_width,
            "resize": config.resize,
            **({} if config.resize_to is None else {"resize_to": config.resize_to}),
            "image_mean": config.image_mean,
            "image_std": config.image_std,
        }

    def set_priors(self, labels: np.ndarray | None = None, images: TrainingImages | None = None) -> None:
        """Fill what derives from data. Called once on every process, before training and after `load_pretrained`; a
        checkpoint carries the result.

        Args:
            labels: the known training labels, `(num_images, num_labels)` in {-1, 0, +1}.
            images: the training images, for models whose priors come from them.

        Raises:
            ValueError: if the priors need labels or images that were not given.
        """
        self.fill_priors(labels, images)
        self._missing_priors = set()

    def fill_priors(self, labels: np.ndarray | None, images: TrainingImages | None) -> None:
        """Fill `prior_buffers`; what a subclass defines and `set_priors` calls."""

    @property
    def reads_names(self) -> bool:
        """Whether labels are words to the model, so that `set_labels` can change them."""
        return False

    @torch.no_grad()
    def set_labels(self, names: Sequence[str]) -> None:
        """Know the labels `names` from now on; `config.thresholds` of labels that stay are kept.

        Raises:
            ValueError: for a model that knows its labels by numbers, and for names that it cannot read. The model is
                then as it was.
        """
        if not self.reads_names:
            raise ValueError(
                f"The labels of a {type(self).__name__} cannot change: it knows them by numbers that it was trained "
                "with. Models that read the names of their labels, those with CLIP and an ML-Decoder with `queries: "
                "words`, can be asked about others."
            )
        check_unique(names, "every label must be named once")
        config = self.config
        old_rows = {normalized_name(name): row for row, name in enumerate(config.label_names)}
        rows = [old_rows.get(normalized_name(name)) for name in names]
        self._take_labels(names, rows)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: row for row, name in enumerate(names)}
        if not isinstance(config.thresholds, float | int):
            default: Any = MultiLabelConfig.thresholds
            old: Any = config.thresholds
            config.thresholds = [default if row is None else old[row] for row in rows]

    def _take_labels(self, names: Sequence[str], rows: list[int | None]) -> None:
        """Replace what derives from the names of the labels; what `set_labels` calls where a model `reads_names`.

        Args:
            rows: of each label among the old ones, `None` for a new one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `_take_labels`.")

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        objective: Objective | None = None,
        progress: Progress | None = None,
        output_attention_maps: bool = False,
        output_representations: bool = False,
        return_dict: bool | None = None,
        features: Tensor | None = None,
        **views: Tensor,
    ) -> MultiLabelOutput | ObjectiveOutput | tuple:
        """Logits of images, with the loss of their `labels`; or, with an `objective`, what it gives.

        Args:
            pixel_values: `(batch_size, 3, height, width)`, bytes, or normalised by an image processor.
            labels: `(batch_size, num_labels)` in {-1, 0, +1}.
            objective: what to minimise; hands over to it, for training.
            features: what `encode_frozen` gave for the images, in the place of `pixel_values`.
            views: further tensors of the batch that an objective asks for; `input_ids` of captions stand for images.
        """
        seen: Any = None if objective is not None and TOKENS in views else self._seen(pixel_values, features)
        if objective is not None:
            if self._missing_priors:
                raise RuntimeError(
                    f"{type(self).__name__} cannot be trained yet: {', '.join(sorted(self._missing_priors))} derive "
                    "from the training data. Call `set_priors(labels)` first, or load a checkpoint, which has them."
                )
            views = {name: self.normalize(view) for name, view in views.items()}
            return objective(self, {"pixel_values": seen, "labels": labels, **views}, progress)
        representations, attention_maps = self.represent(self.encode(seen))
        logits = at_least_float32(self.classify(representations))
        if labels is not None:
            self._warn_of_zeros(labels)
        output = MultiLabelOutput(
            loss=None if labels is None else partial_bce(logits, labels),
            logits=logits,
            representations=representations if output_representations else None,
            attention_maps=attention_maps if output_attention_maps else None,
        )
        return output.to_tuple() if return_dict is False else output

    def _seen(self, pixel_values: Tensor | None, features: Tensor | None) -> Tensor | StoredFeatures:
        if features is not None and pixel_values is None:
            return StoredFeatures(features)
        if pixel_values is None or features is not None:
            raise ValueError("A model needs either `pixel_values` or `features`: give one of them.")
        return self.normalize(pixel_values)

    def _warn_of_zeros(self, labels: Tensor) -> None:
        """Warn of labels in {0, 1}, where zeros are most likely meant as absent; the first batch tells."""
        if self._zeros_are_checked:
            return
        self._zeros_are_checked = True  # later batches need not wait for the device
        if bool((labels == UNKNOWN).any() & (labels == POSITIVE).any() & ~(labels == NEGATIVE).any()):
            logger.warning(
                "`labels` holds 0 and 1, but no -1: 0 is unknown here and gives no loss. If it means absent, turn it "
                "into -1."
            )

    def post_init(self) -> None:
        first = {parameter: name for name, parameter in self.named_parameters()}  # parts of some networks share theirs
        everywhere = self.named_parameters(remove_duplicate=False)
        self._tied_weights_keys = {name: first[each] for name, each in everywhere if first[each] != name}
        super().post_init()
        self._frozen = [name for name, parameter in self.named_parameters() if not parameter.requires_grad]
        self._missing_priors = {*self.prior_buffers} & {name for name, _ in self.named_buffers()}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._missing_priors = {name for name in self._missing_priors if prefix + name not in state_dict}

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Save memory by computing parts of the backbone again in the backward pass, as timm does."""
        asked = {key: value for key, value in options.items() if value and (key, value) != ("every_n_layers", 1)}
        if asked or gradient_checkpointing_kwargs:
            raise ValueError(
                f"Gradient checkpointing is that of timm here, which has no settings, got "
                f"{asked | (gradient_checkpointing_kwargs or {})}. Leave them out."
            )
        self.backbone.checkpoint_gradients(True)

    def gradient_checkpointing_disable(self) -> None:
        self.backbone.checkpoint_gradients(False)

    def train(self, mode: bool = True):
        """Frozen parts of the backbone keep their stored batch statistics."""
        super().train(mode)
        self.backbone.keep_frozen_parts_in_evaluation_mode()
        return self

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """Torch's own initialisation everywhere, instead of the N(0, 0.02) of language models.

        `reset_parameters` goes through functions that transformers patches to leave loaded tensors alone.
        """
        if getattr(module, "_keeps_own_init", False):
            if hasattr(module, "init_non_persistent_buffers"):
                module.init_non_persistent_buffers()
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def save_pretrained(self, save_directory, is_main_process: bool = True, *args, push_to_hub=False, **kwargs):
        """As everywhere in transformers, with what else belongs to a checkpoint; `push_to_hub` publishes it, too.

        Raises:
            ValueError: for weights that are no finite numbers.
        """
        options = {name: kwargs.pop(name) for name in _PUSH_OPTIONS if name in kwargs}
        check_finite(
            kwargs.get("state_dict") or self.state_dict(), "so the model is not saved. Did the training diverge?"
        )
        with writing(save_directory, "", SafetensorError):
            super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
            if is_main_process:
                self.save_further_files(Path(save_directory))
                for file in Path(save_directory).glob("*.safetensors"):
                    make_readable(file)
        if is_main_process and push_to_hub:
            self.push_to_hub(**{"repo_id": Path(save_directory).name} | options)

    def save_further_files(self, folder: Path) -> None:
        """Write what a checkpoint has beside weights and config."""
        processor_for(self.config).save_pretrained(folder)

    def read_further_files(self, folder: Path) -> None:
        """Read of a checkpoint what `save_further_files` wrote and a new model needs."""

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        processor: Any = None,
        run: str | Path | None = None,
        license: str | None = None,
        pictures: bool = False,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        tag: str | None = None,
        commit_message: str = "Upload tagger",
    ) -> str:
        """Publish the model with its card.

        Args:
            repo_id, private, token, revision, tag, commit_message: see `hub.publish.Destination`.
            processor, run, license, pictures: see `hub.publish.write_folder`.

        Returns:
            The address of the repository.
        """
        destination = Destination(
            repo_id=repo_id,
            private=private,
            token=token,
            revision=revision,
            tag=tag,
            commit_message=commit_message,
        )
        return publish(self, destination, processor=processor, run=run, license=license, pictures=pictures)

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoModel"):
        """Nothing: where the code of a repository imports this class, a later save must not copy its modules."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint from safetensors; one that lacks some weights is an error, not a random network."""
        asked_for_info = kwargs.pop("output_loading_info", False)
        other_sizes_are_fine = kwargs.pop("ignore_mismatched_sizes", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
        both: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model, info = both
        mismatched = sorted((key, tuple(theirs), tuple(ours)) for key, theirs, ours in info["mismatched_keys"])
        if mismatched and not other_sizes_are_fine:
            key, theirs, ours = mismatched[0]
            raise ValueError(
                f"The checkpoint {str(pretrained_model_name_or_path)!r} has {len(mismatched)} weights of other sizes "
                f"than its config says, such as {key}, {theirs} instead of {ours}. Do both files belong together?"
            )
        missing = sorted(info["missing_keys"])
        if missing:
            raise ValueError(
                f"The checkpoint {str(pretrained_model_name_or_path)!r} lacks {len(missing)} weights "
                f"({', '.join(missing[:3])}, ...), which would be random. It is damaged, or was made for another "
                f"model than {cls.__name__} with the backbone {model.config.backbone!r}."
            )
        check_finite(model.state_dict(), f"so {str(pretrained_model_name_or_path)!r} is damaged.")
        model._missing_priors = set(info["missing_keys"]) & {*model.prior_buffers}
        for name in model._frozen:  # transformers makes new parameters of what it reads
            model.get_parameter(name).requires_grad_(False)
        return (model, info) if asked_for_info else model
