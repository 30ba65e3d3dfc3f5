"""Publishing on the Hub: one clean folder, in one commit.

Everything that pushes (the command, models, pipelines, the trainer at the end and in between) goes through `publish`.
Nothing is copied from the folder of a run that is not named here; so optimizer states, random states, logs and photos
stay where they are.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

from ..settings import parse_yaml
from .cards import CARD_NAME, keep_what_the_author_wrote, write_card
from .errors import explained, retried
from .facts import FACTS_NAME, TrainingFacts
from .privacy import check_nothing_private, is_local, without_local_paths
from .stub import name_the_package

RECIPE_NAME, METRICS_NAME = "recipe.yaml", "metrics.json"
PICTURES = ("attention.png", "examples")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_STALE = ("model", "pytorch_model", "training_args", "optimizer", "scheduler", "rng_state")  # starts of old weights


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a push goes.

    repo_id: the name of the repository, which is made where there is none.
    private: whether a new repository is private.
    token: by default that of `hf auth login` or of HF_TOKEN.
    revision: branch, made where there is none.
    tag: name for the commit.
    further_place: a folder of the repository where everything is put a second time.
    """

    repo_id: str
    private: bool | None = None
    token: str | None = None
    revision: str | None = None
    tag: str | None = None
    commit_message: str = "Upload tagger"
    further_place: str | None = None


def publish(
    model: Any,
    destination: Destination,
    *,
    processor: Any = None,
    run: str | Path | None = None,
    license: str | None = None,
    pictures: bool = False,
) -> str:
    """Push a model: `write_folder`, then `upload`; gives the address of the repository."""
    content = {"processor": processor, "run": run, "license": license, "pictures": pictures}
    with TemporaryDirectory(prefix="hf-mlrpl-") as folder:
        write_folder(Path(folder), model, destination.repo_id, **content)
        return upload(Path(folder), destination)


def write_folder(
    folder: Path,
    model: Any,
    repo_id: str,
    *,
    processor: Any = None,
    run: str | Path | None = None,
    license: str | None = None,
    pictures: bool = False,
) -> None:
    """Fill `folder` with what others need to use the model and to understand where it comes from.

    Args:
        model: one of our models; its weights and its config with the thresholds are saved as they are.
        processor: an image processor in the place of the model's own.
        run: folder of its training. Its recipe, without local paths, its metrics and its facts come along, if it has
            them.
        license: of the weights, as the Hub calls it, such as "apache-2.0".
        pictures: also the examples and the picture of attention maps of the run, which are photos of the data.
    """
    with _without_paths_in_config(model.config):
        model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    name_the_package(folder, type(model), type(model.config))
    if run is not None:
        _write_recipe(Path(run), folder)
        for name in (METRICS_NAME, FACTS_NAME):
            if (Path(run) / name).is_file():
                shutil.copyfile(Path(run) / name, folder / name)
        if pictures:
            _copy_pictures(Path(run), folder)
    describe_folder(folder, model, repo_id, license=license)
    if run is not None and (Path(run) / CARD_NAME).is_file():
        keep_what_the_author_wrote(folder / CARD_NAME, (Path(run) / CARD_NAME).read_text(encoding="utf-8"))


def describe_folder(folder: Path, model: Any, repo_id: str, *, license: str | None = None) -> None:
    """Write the card of a folder from the model and from the recipe, metrics and facts that lie there."""
    recipe = _recipe_for_others(folder)[0]
    metrics_file, card = folder / METRICS_NAME, folder / CARD_NAME
    metrics = json.loads(metrics_file.read_text(encoding="utf-8")) if metrics_file.is_file() else {}
    earlier = card.read_text(encoding="utf-8") if card.is_file() else None
    facts = TrainingFacts.read(folder)
    write_card(folder, repo_id, model, recipe=recipe, metrics=metrics, facts=facts, license=license)
    if earlier is not None:
        keep_what_the_author_wrote(card, earlier)


def upload(folder: Path, destination: Destination) -> str:
    """Make one commit of `folder`; gives the address of the repository.

    Old weights in the repository go, other files of its owner stay, and so does what they wrote in the card. Large
    files that have arrived in an earlier, interrupted attempt are not sent again.

    Raises:
        OSError: if the Hub cannot be reached, or refuses.
        ValueError: if the repository has the tag already.
    """
    revision, token = destination.revision, destination.token
    name = create_repository(destination.repo_id, private=destination.private, token=token)
    api = HfApi(token=token, library_name="hf-mlrpl")
    with explained(name, writing=True):
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(name, branch=revision, exist_ok=True)
        if destination.tag is not None and destination.tag in [tag.name for tag in api.list_repo_refs(name).tags]:
            raise ValueError(f"{name} has a tag {destination.tag} already. Give another one; nothing was uploaded.")
        there = api.list_repo_files(name, revision=revision)
        if CARD_NAME in there:
            earlier = Path(api.hf_hub_download(name, CARD_NAME, revision=revision)).read_text(encoding="utf-8")
            keep_what_the_author_wrote(folder / CARD_NAME, earlier)
        check_nothing_private(folder, token or get_token())
        commit = _commit(api, folder, name, there, destination)
        if destination.tag is not None:
            api.create_tag(name, tag=destination.tag, revision=commit)
    return f"{api.endpoint}/{name}"


def create_repository(repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """The full name of a repository, which is made where there is none.

    Raises:
        ValueError: if it is there and public, but was asked to be private.
    """
    api = HfApi(token=token)
    with explained(repo_id, writing=True):
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(name).private:
            raise ValueError(f"{name} is there already, and public. Make it private on its page, or push to another.")
    return name


def listed_files(folder: Path) -> list[Path]:
    """Files that `upload` sends, relative to `folder`; raises if a pickle is among them."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    if pickles := [str(file) for file in files if file.suffix in _PICKLES]:
        raise RuntimeError(f"Pickles are never uploaded, but there is {', '.join(pickles)}.")
    return files


def _commit(api: HfApi, folder: Path, name: str, there: list[str], destination: Destination) -> str:
    """The number of the commit."""
    files = listed_files(folder)
    places = {file.as_posix(): file for file in files}
    if destination.further_place is not None:
        places |= {f"{destination.further_place}/{file.as_posix()}": file for file in files}
    stale = [path for path in there if path not in places and _is_stale(path)]

    def commit() -> str:
        operations: list[Any] = [CommitOperationDelete(path_in_repo=path) for path in stale]
        operations += [CommitOperationAdd(place, folder / file) for place, file in places.items()]
        message = destination.commit_message
        return api.create_commit(name, operations, commit_message=message, revision=destination.revision).oid

    return retried(commit)


def _is_stale(path: str) -> bool:
    """Whether a file at the root is of weights or of a training, as an earlier push may have left it."""
    return "/" not in path and path.startswith(_STALE) and Path(path).suffix in (*_PICKLES, ".safetensors", ".json")


def _recipe_for_others(run: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The recipe of a run without local paths, and the names of these; how it was pushed is no part of it."""
    file = run / RECIPE_NAME
    if not file.is_file():
        return None, []
    content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    training = content.get("training") or {}
    content["training"] = {k: v for k, v in training.items() if k != "push_to_hub" and not k.startswith("hub_")}
    return without_local_paths(content)


def _write_recipe(run: Path, folder: Path) -> None:
    recipe, removed = _recipe_for_others(run)
    if recipe is not None:
        note = f"# Paths of the author were left out: {', '.join(removed)}. Give yours.\n" if removed else ""
        (folder / RECIPE_NAME).write_text(note + yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


@contextmanager
def _without_paths_in_config(config: Any) -> Iterator[None]:
    """Inside the block, settings of `config` that are paths are only the names of these files."""
    paths = {key: value for key, value in vars(config).items() if not key.startswith("_") and is_local(value)}
    for key, value in paths.items():
        setattr(config, key, Path(value).name)
    try:
        yield
    finally:
        for key, value in paths.items():
            setattr(config, key, value)


def _copy_pictures(run: Path, folder: Path) -> None:
    for name in PICTURES:
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name)
        elif (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
