"""The training command as a child of the asset, its lines in Dagster's log (Dagster Pipes)."""

import subprocess
from collections.abc import Sequence

import dagster as dg

from acula_model.training import job


def through_pipes(
    context: dg.AssetExecutionContext, client: dg.PipesSubprocessClient
) -> job.Launch:
    """A launcher that reports to Dagster.

    The process materialises nothing: the asset does, once the result is on disk and probed.
    """

    def launch(arguments: Sequence[str]) -> None:
        try:
            invocation = client.run(
                context=context, command=list(arguments), env=job.environment(arguments)
            )
        except Exception as error:
            # Dagster exports no name for a process that failed.
            if type(error).__name__ != "DagsterPipesExecutionError":
                raise
            raise subprocess.CalledProcessError(1, list(arguments)) from error
        if invocation.get_results(implicit_materializations=False):
            raise RuntimeError("the training process reported a materialisation of its own")

    return launch
