"""The Trainer's pushes to the Hub, which all make the same clean folder."""

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..hub.publish import create_repository, describe_folder, publish
from ..models.image_processing import processor_for
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
    hub_model_id: Any  # text, once the repository is there

    def __init__(self, *args: Any, **kwargs: Any):
        self._pushes: list[Future[str]] = []  # in the background
        super().__init__(*args, **kwargs)

    def published_weights(self) -> AbstractContextManager[None]:
        """Inside the block the model has the weights that are published."""
        return nullcontext()

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
        return self._publish(commit_message, blocking, token=token, revision=revision, license=license)

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
            self._pushes.append(self._publish(message, blocking=False, further_place=place))
        except OSError as error:
            logger.warning(f"A push during the training failed: {error}")

    def _publish(self, message: str | None, blocking: bool, **options: Any) -> Any:
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        options = {name: value for name, value in options.items() if value is not None}
        defaults = {"token": self.args.hub_token, "revision": self.args.hub_revision, "license": self.args.hub_license}
        assert self.hub_model_id is not None
        with self.published_weights():
            return publish(
                self.model,
                self.hub_model_id,
                processor=processor_for(self.model.config),
                run=self.args.output_dir,
                wait=blocking,
                commit_message=message,
                **defaults | options,
            )

    def _finish_current_push(self) -> None:
        """Wait for uploads in the background, and say so where one failed: a later push makes up for it."""
        for push in self._pushes:
            if error := push.exception():
                logger.warning(f"A push during the training failed: {error}")
        self._pushes.clear()
