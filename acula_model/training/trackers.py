"""Where else curves go: MLflow or Weights & Biases, whose clients users install themselves."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from acula_model.training.errors import TrainingError

TrackerName = Literal["mlflow", "wandb"]
# The whole package of MLflow would put an older pyarrow in the place of the one that is there.
PACKAGES: dict[str, str] = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
MLFLOW_RUN = "mlflow_run.txt"  # a resumed run goes on with its curves


class Tracker(Protocol):
    """Takes numbers of a run."""

    failure: type[Exception]
    """What its client raises."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one step."""
        ...

    def close(self, whole: bool) -> None:
        """The process ends with the run whole, or before."""
        ...


def known(names: Sequence[str]) -> list[TrackerName]:
    """Names that are trackers.

    Raises:
        TrainingError: One is not; lists those that are.
    """
    if wrong := [n for n in names if n not in get_args(TrackerName)]:
        raise TrainingError(f"no tracker {wrong[0]!r}; known: {', '.join(get_args(TrackerName))}")
    return [cast("TrackerName", n) for n in names]


def start(name: TrackerName, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """Start the tracker's run, or go on with it.

    Args:
        name: Of the tracker.
        folder: The run's; its name is that of the tracker's run.
        settings: The recipe.

    Raises:
        TrainingError: It is not installed, or cannot start; says why in its own words.
    """
    try:
        client = importlib.import_module(name)
    except ImportError as error:
        raise TrainingError(
            f"tracker {name} is asked for and not installed: pip install {PACKAGES[name]}"
        ) from error
    kind = _KINDS[name]
    try:
        return kind(client, folder, settings)
    except kind.failing(client) as error:
        raise TrainingError(
            f"tracker {name} cannot start: {error} Set it up, or leave it out of ACULA_TRACKERS"
        ) from error


class _MLflow:
    """An experiment ``acula``; its place is that of ``MLFLOW_TRACKING_URI``."""

    def __init__(self, client: Any, folder: Path, settings: Mapping[str, Any]):
        self._client, self.failure = client, self.failing(client)
        kept = folder / MLFLOW_RUN
        client.set_experiment("acula")
        run_id = kept.read_text().strip() if kept.is_file() else None
        run = client.start_run(run_id=run_id, run_name=None if run_id else folder.name)
        kept.write_text(run.info.run_id)
        client.log_params({k: str(v)[:500] for k, v in settings.items()})

    @staticmethod
    def failing(client: Any) -> type[Exception]:
        return client.exceptions.MlflowException

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._client.log_metrics(dict(values), step=step)

    def close(self, whole: bool) -> None:
        self._client.end_run("FINISHED" if whole else "FAILED")


class _WandB:
    """A project ``acula``; the folder's name is the run's id, so a resumed run goes on with it."""

    def __init__(self, client: Any, folder: Path, settings: Mapping[str, Any]):
        self.failure = self.failing(client)
        self._run = client.init(
            project="acula", name=folder.name, id=folder.name, resume="allow",
            config=dict(settings), dir=str(folder),
        )  # fmt: skip

    @staticmethod
    def failing(client: Any) -> type[Exception]:
        return client.Error

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, whole: bool) -> None:
        self._run.finish(exit_code=0 if whole else 1)


_KINDS: dict[str, Any] = {"mlflow": _MLflow, "wandb": _WandB}
