"""One `Trainer` for all methods."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from ..allocator import keep_freed_memory
from ..data.columns import are_captions
from ..data.images.feature_files import FEATURES
from ..data.images.torch_dataset import PIXELS, PartialLabelImages
from ..data.images.training_images import TrainingImages
from ..data.labelled_items import LabelledItems
from ..distributed import share_buffers
from ..metrics.f1 import choose_thresholds, mean_f1
from ..metrics.label_report import LabelReport, label_report
from ..metrics.multi_label import scores_of
from ..models.configuration_utils import MultiLabelConfig
from ..objective import Objective, check_views, what_never_begins
from ..schedules import Progress
from .checkpoints import SaveLast
from .devices import (
    choose_threads,
    prepare_kernels,
    spare_search_for_unused_parameters,
    warn_of_slow_bfloat16,
    workers_for,
)
from .ema import WeightEma
from .evaluation import compute_metrics, evaluation_loss, logits_and_labels, metrics_of_labels
from .images import (
    DEFAULT_VIEW,
    check_batches,
    check_labels_of_items,
    check_negatives,
    prepare_captions,
    prepare_images,
)
from .inputs import checked_arguments, make_objective, selecting_part
from .logs import RunningMeans, use_concise_logs
from .optimization import make_optimizer, make_schedule
from .resuming import ResumableTrainer
from .stored_features import make_ready, stored_training_images, with_stored_features
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)


class MultiLabelTrainer(ResumableTrainer):
    """Runs any objective, and logs its terms and its pseudo-labels.

    Args:
        args: they are copied; without an `eval_dataset`, the copy evaluates nothing during the training.
        objective: what to minimise: the name of a method, the config of an objective, or an objective. It may have
            buffers, which are saved, but no parameters.
        train_dataset: a `datasets.Dataset` with labels, which is shown in the view `crop_flip`; `prepare_images`
            chooses another one. Or captions of `load_captions`, for an objective that learns from them. Or items with
            `pixel_values`, `labels`, and optionally `full_labels`, which only the count of correct pseudo-labels sees.
            An objective that looks through the training set needs the first of these.
        eval_dataset: the same for evaluation, or several by name. Of several, `metric_for_best_model` and
            `choose_thresholds` take the one called "validation", or the only one.
        model_init: makes the model, anew for each training, in the place of `model`.
        kwargs: others of the Trainer.
    """

    _steps_per_epoch: int | None = None  # known when training begins
    loss_is_scaled_for_ga = False  # objectives return a mean over the micro-batch
    args: MultiLabelTrainingArguments
    model: Any  # a `MultiLabelPreTrainedModel`
    objective: Objective
    train_dataset: Any
    lr_scheduler: Any

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MultiLabelTrainingArguments | None = None,
        objective: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        model_init: Callable[..., Any] | None = None,
        **kwargs: Any,
    ):
        if model_init is not None and isinstance(objective, Objective):
            raise ValueError(
                "`model_init` makes a model for each training, and each needs an objective without memory: give the "
                f"name or the config of the objective, not a {type(objective).__name__}."
            )
        self._given = {"objective": objective, "train": train_dataset, "eval": eval_dataset}
        self._is_set_up = False
        args = checked_arguments(args, eval_dataset)
        if "compute_metrics" not in kwargs:
            args.check_metric()
        kwargs.setdefault(
            "compute_metrics",
            lambda prediction: compute_metrics(
                prediction, self.model.config.thresholds, names=self.model.config.label_names
            ),
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            model_init=model_init,
            **kwargs,
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or self.args.n_gpu > 1:
            raise ValueError(
                "This trainer runs one process per device with DDP; FSDP, DeepSpeed and `DataParallel` are not "
                "supported. Start it with `accelerate launch` or `torchrun --nproc_per_node <number of devices>`."
            )
        prepare_kernels(self.args)
        warn_of_slow_bfloat16(self.args)
        self._set_up(self.model)
        self._means = RunningMeans()
        self.add_callback(_EpochAndEma(self))
        self.add_callback(SaveLast())
        use_concise_logs(self)

    # ---- what is given ----

    def _set_up(self, model: Any) -> None:
        """Make what depends on the model: its layout, images, the objective with its memory, and averaged weights."""
        args = self.args
        if args.device.type == "cpu":
            keep_freed_memory()
        model.to(memory_format=torch.channels_last)  # the layout in which the backbone runs
        objective = make_objective(self._given["objective"], model)
        images = self._images(self._given["train"], model, training_of=objective)
        args.dataloader_num_workers = workers_for(images, args)
        choose_threads(args)
        self.train_dataset, self.storing = stored_training_images(args, model, objective, images)
        check_batches(self.train_dataset, model, args)
        if isinstance(self.train_dataset, LabelledItems) and not args.allow_no_negatives:
            check_negatives(self.train_dataset.labels, objective)
        self.eval_dataset = self._images(self._given["eval"], model)
        self.training_images: TrainingImages | None = None
        if isinstance(self.train_dataset, PartialLabelImages):
            check_views(objective.config, self.train_dataset.views)
            self.training_images = TrainingImages(
                self.train_dataset,
                normalize=model.normalize,
                batch_size=args.per_device_eval_batch_size,
                num_workers=args.dataloader_num_workers,
                seed=args.seed,
                show_progress=not args.disable_tqdm,
            )
            objective.prepare(self.training_images)
        self.objective = objective.to(args.device)
        spare_search_for_unused_parameters(self.accelerator, args, objective, model)
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        objective.averaged_model = self.ema.as_model if self.ema else None
        objective.full_batch = args.per_device_train_batch_size
        self._is_set_up = True

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model = super().call_model_init(trial)
        if self._is_set_up:  # a new training
            self._move_model_to_device(model, self.args.device)
            self._set_up(model)
        return model

    def _images(self, dataset: Any, model: Any, training_of: Objective | None = None) -> Any:
        """A data set, or several by name, as the model sees it; what has been prepared stays as it is.

        Args:
            training_of: the objective, for training images or captions; otherwise they are to evaluate with.
        """
        config: MultiLabelConfig = model.config
        if isinstance(dataset, dict) and training_of is None:
            return {name: self._images(part, model) for name, part in dataset.items()}
        is_table = hasattr(dataset, "column_names")  # of the package `datasets`, which need not be there
        if is_table and training_of is not None and are_captions(dataset):
            dataset = prepare_captions(dataset, model, training_of)
        elif is_table:
            views: dict[str, Any] = {}
            if training_of is not None:
                further = getattr(training_of.config, "needed_views", {})
                views = {"view": DEFAULT_VIEW, "further_views": further, "seed": self.args.seed}
            dataset = prepare_images(dataset, config, **views)
        if isinstance(dataset, LabelledItems):
            check_labels_of_items(dataset, config, is_training=training_of is not None)
        return dataset if training_of is not None else with_stored_features(dataset, self.storing)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        parts: Any = self.eval_dataset
        images = parts[eval_dataset] if isinstance(eval_dataset, str) else eval_dataset
        images = self._images(images, self.model)
        make_ready(parts if images is None else images)
        with self._no_image_left_out():
            return super().get_eval_dataloader(images)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        images = self._images(test_dataset, self.model)
        make_ready(images)
        with self._no_image_left_out():
            return super().get_test_dataloader(images)

    @contextmanager
    def _no_image_left_out(self) -> Iterator[None]:
        """Loaders that are made here show the last batch, too: `dataloader_drop_last` is for training alone."""
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = drop_last

    # ---- one step ----

    def get_train_dataloader(self) -> DataLoader:
        """The Trainer's loader, with workers that live through all epochs, of which `PartialLabelImages` tell them."""
        if not isinstance(self.train_dataset, LabelledItems):
            return super().get_train_dataloader()
        make_ready(self.train_dataset)
        args = self.args
        loader: DataLoader = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            self._train_batch_size,
            sampler=self._get_train_sampler(),
            drop_last=args.dataloader_drop_last,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            persistent_workers=args.dataloader_num_workers > 0,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory,
            generator=torch.Generator(),  # else it would draw from torch's global one whenever workers start
        )
        return self.accelerator.prepare(loader)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's step, without what it does for models, optimizers and launchers that are refused here.

        It would also put all parts of the model into training mode, which only a pass over other images leaves.
        """
        if not self.model.training:
            self.into_training_mode(model)
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs) / self.current_gradient_accumulation_steps
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        self.accelerator.backward(loss)
        return loss.detach()

    def into_training_mode(self, model: nn.Module) -> None:
        """Undo what an evaluation did to the model, or what holds it, and to an optimizer that averages weights."""
        model.train()
        optimizer: Any = self.optimizer
        if hasattr(optimizer, "train"):
            optimizer.train()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> Tensor | None:
        """That of clipping; the Trainer would look through all gradients just to log it."""
        return grad_norm

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Nothing: the Trainer's formula is that of language models, and takes a walk through all parameters."""
        return 0

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ):
        full_labels = inputs.pop("full_labels", None)
        if self.model.training:
            outputs = model(**inputs, objective=self.objective, progress=Progress.from_state(self.state))
            self._means.add(outputs, inputs["labels"], full_labels)
        else:  # the same plain loss for every method, so that `eval_loss` can be compared
            seen = {name: inputs[name] for name in (PIXELS, FEATURES) if name in inputs}
            outputs = model(**seen, labels=inputs["labels"])
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def before_epoch(self) -> None:
        """Let the objective look through the training set."""
        if self.training_images is None or type(self.objective).before_epoch is Objective.before_epoch:
            return
        share_buffers(self.model)
        self.model.eval()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), self.accelerator.autocast():
            self.objective.before_epoch(self.model, self.training_images, Progress.from_state(self.state))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise RuntimeError(
                    f"The loss is {logs['loss']} around step {self.state.global_step}: training diverged, and nothing "
                    "of it is saved. Lower `learning_rate`, clip with `max_grad_norm`, or train in float32; "
                    "checkpoints of earlier steps are as they were."
                )
            self._means.move_to(logs)
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = make_optimizer(model or self.model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None and self.args.lr_schedule != "transformers":
            self.lr_scheduler = make_schedule(
                optimizer or self.create_optimizer(), self.args, num_training_steps, self._steps_per_epoch
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """The Trainer's loop over images, for the averaged weights where there are any, with the loss over all images.

        The Trainer's own loss is a mean of batches, in which the padding of the last one counts, and which depends on
        the number of processes.
        """
        with self.published_weights():
            share_buffers(self.model)
            output = super().evaluation_loop(*args, **kwargs)
        if output.metrics is not None and output.predictions is not None and output.label_ids is not None:
            loss = evaluation_loss(*logits_and_labels(output))
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = loss
        return output

    def published_weights(self) -> AbstractContextManager[None]:
        return self.ema.applied_to(self.model) if self.ema else nullcontext()

    def measure(
        self, dataset: Any, split: str, parts: Mapping[str, Sequence[int]] | None = None
    ) -> tuple[dict[str, float], LabelReport]:
        """The metrics of `evaluate`, and what they are for each label.

        Args:
            split: goes in front of the names of the metrics.
            parts: columns of labels that are also measured by themselves, such as `{"unseen": [3, 4]}`; their names
                come behind that of the split.
        """
        output = self.predict(dataset, metric_key_prefix=split)
        config = self.model.config
        logits, labels = logits_and_labels(output)
        metrics = dict(output.metrics or {})
        for part, columns in (parts or {}).items():
            of_part = metrics_of_labels(logits, labels, columns, config.thresholds)
            metrics |= {f"{split}_{part}_{name}": value for name, value in of_part.items()}
        return metrics, label_report(logits, labels, config.label_names, thresholds=config.thresholds)

    def choose_thresholds(self, dataset: Any = None) -> list[float]:
        """Give the model the threshold of every label with the largest F1 on validation images.

        They become `config.thresholds`, from which evaluation and the tagging pipeline take them. The mean F1 is
        logged as `validation_mean_f1_chosen`, in percent.

        Args:
            dataset: by default `eval_dataset`; of several, the one called "validation", or the only one.
        """
        images: Any = self.eval_dataset if dataset is None else dataset
        if isinstance(images, dict):
            images = images[selecting_part(images, "choose_thresholds")]
        logits, labels = logits_and_labels(self.predict(images, metric_key_prefix="validation"))
        scores = scores_of(logits)
        thresholds = choose_thresholds(scores, labels)
        self.model.config.thresholds = thresholds.tolist()
        self.log({"validation_mean_f1_chosen": 100 * mean_f1(scores, labels, thresholds)})
        return thresholds.tolist()

    # ---- training ----

    def set_initial_training_values(self, args: Any, dataloader: DataLoader):
        values = super().set_initial_training_values(args, dataloader)
        self._steps_per_epoch = values[1]
        return values

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any):
        """Train, if there are epochs, and choose thresholds, if they are asked for.

        Args:
            resume_from_checkpoint: a checkpoint, or `True` for the newest complete one of `output_dir`.
        """
        if self.args.num_train_epochs or self.args.max_steps > 0:
            try:
                result = super().train(resume_from_checkpoint, *args, **kwargs)
            finally:
                self._end_workers()
        else:  # a method without training
            result = TrainOutput(0, 0.0, {})
        if self.args.choose_thresholds:
            self.choose_thresholds()
        return result

    def _end_workers(self) -> None:
        """Let go of the workers, and of the images that they keep; a garbage collection would hang for seconds."""
        loader = self.callback_handler.train_dataloader
        if loader is not None:  # none where the training ended before its first step
            getattr(loader, "base_dataloader", loader)._iterator = None  # that of Accelerate wraps torch's own

    def save_averaged_weights_to_model(self) -> None:
        """After training: give the model the averaged weights for good, where there are any."""
        if self.ema:
            self.ema.copy_to(self.model)
            self.ema = None


class _EpochAndEma(TrainerCallback):
    """Says what never begins, tells the training images and the objective that an epoch does, and updates the averaged
    weights."""

    def __init__(self, trainer: MultiLabelTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            for sentence in what_never_begins(self.trainer.objective.config, state.num_train_epochs):
                logger.warning(sentence)

    def on_epoch_begin(self, args, state, control, **kwargs):
        if hasattr(self.trainer.train_dataset, "set_epoch"):
            self.trainer.train_dataset.set_epoch(int((state.epoch or 0) + 1e-6))
        self.trainer.before_epoch()
        self.trainer.into_training_mode(self.trainer.model_wrapped)

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer.ema:
            self.trainer.ema.update(self.trainer.model)
