"""The results of a training: saved with all that others need, and pushed to the Hub as the same clean folder."""

import json
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..data.images.torch_dataset import PartialLabelImages
from ..faults import writing
from ..hub.facts import TrainingFacts
from ..hub.publish import (
    METRICS_NAME,
    Destination,
    create_repository,
    describe_folder,
    upload,
    write_folder,
)
from ..hub.shipped import facts_of_page
from ..labels import summarize_labels
from ..models.image_processing import processor_for
from ..objective import Objective
from .inputs import method_of
from .logs import last_evaluation
from .training_args import MultiLabelTrainingArguments

logger = logging.get_logger(__name__)


class PushingTrainer(Trainer):
    """Pushes what `hub.publish` makes of the model and of the folder of the run, in place of that folder itself.

    `hub_strategy`: "end" pushes when `push_to_hub` is called, the others also with every checkpoint. "checkpoint" puts
    the same files into `last-checkpoint`, too, and "all_checkpoints" into a folder for each. None of them uploads what
    resuming needs: optimizer and random states are pickles, and stay here.
    """

    args: MultiLabelTrainingArguments
    model: Any
    objective: Objective
    hub_model_id: Any  # text, once the repository is there

    def __init__(self, *args: Any, **kwargs: Any):
        self._pushes: list[Future[str]] = []  # in the background
        super().__init__(*args, **kwargs)

    def published_weights(self) -> AbstractContextManager[None]:
        """Inside the block the model has the weights that are published."""
        return nullcontext()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the final model, with averaged weights where there are any, its image processor and its card.

        Checkpoints of the training are none: they have the weights that go on learning.
        """
        if _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        with self.published_weights():
            super().save_model(output_dir, _internal_call=True)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            with writing(folder):
                (self.processing_class or processor_for(self.model.config)).save_pretrained(folder)
                self._describe(folder)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")

    def _describe(self, folder: Path) -> None:
        """Write the card of a training without a recipe, and what it is made from."""
        images, names = self.train_dataset, self.model.config.label_names
        known: dict[str, Any] = {}
        if isinstance(images, PartialLabelImages):
            summary = summarize_labels(images.labels, names)
            known = {"present": summary.present.tolist(), "absent": summary.absent.tolist()}
            hidden = "" if images.full_labels is None else "the others were hidden for the experiment"
            known |= {"num_images": len(images), "hidden": hidden}
        part, metrics = last_evaluation(self.state, self.eval_dataset, best=self.args.load_best_model_at_end)
        method = method_of(self.objective, self.model)
        about = {"method": type(self.objective).__name__} if method is None else facts_of_page(method)
        TrainingFacts(**about, **known, measured=part).save(folder)
        (folder / METRICS_NAME).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        describe_folder(folder, self.model, str(folder))

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, so that a wrong name or token stops the run before it begins."""
        if self.is_world_process_zero():
            name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
            private = self.args.hub_private_repo if private is None else private
            self.hub_model_id = create_repository(name, private=private, token=token or self.args.hub_token)

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        license: str | None = None,
    ) -> Any:
        """Push the model as it is now, see `hub.publish`.

        Returns:
            The address of the repository, or a `Future` of it if not `blocking`; `None` on other processes.
        """
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        folder, destination = self._prepare(commit_message or "End of training", token, revision, license=license)
        push = HfApi().run_as_future(_send, folder, destination)
        return push.result() if blocking else push

    def create_model_card(self) -> None:  # type: ignore[override]
        """Write the card into the folder of the run."""
        if self.is_world_process_zero():
            describe_folder(Path(self.args.output_dir), self.model, self.hub_model_id or self.args.output_dir)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if not self.args.hub_always_push and not all(push.done() for push in self._pushes):
            return
        places = {
            HubStrategy.CHECKPOINT: "last-checkpoint",
            HubStrategy.ALL_CHECKPOINTS: Path(checkpoint_folder).name,
        }
        message = f"Training in progress, step {self.state.global_step}"
        place = places.get(HubStrategy(self.args.hub_strategy))
        try:
            folder, destination = self._prepare(message, further_place=place)
        except OSError as error:
            logger.warning(f"A push during the training failed: {error}")
            return
        self._pushes.append(HfApi().run_as_future(_send, folder, destination))

    def _prepare(
        self,
        message: str,
        token: str | None = None,
        revision: str | None = None,
        *,
        license: str | None = None,
        further_place: str | None = None,
    ) -> "tuple[TemporaryDirectory[str], Destination]":
        """The clean folder of the model as it is now, and where it goes."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        folder = TemporaryDirectory(prefix="hf-mlrpl-")
        run, license = self.args.output_dir, license or self.args.hub_license
        with self.published_weights():
            write_folder(Path(folder.name), self.model, self.hub_model_id, run=run, license=license)
        destination = Destination(
            repo_id=self.hub_model_id,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            commit_message=message,
            further_place=further_place,
        )
        return folder, destination

    def _finish_current_push(self) -> None:
        """Wait for uploads in the background, and say so where one failed: a later push makes up for it."""
        for push in self._pushes:
            if error := push.exception():
                logger.warning(f"A push during the training failed: {error}")
        self._pushes.clear()


def _send(folder: "TemporaryDirectory[str]", destination: Destination) -> str:
    with folder:
        return upload(Path(folder.name), destination)
