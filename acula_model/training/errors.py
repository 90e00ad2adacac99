"""Why a training run cannot go on."""


class TrainingError(ValueError):
    """Training that cannot go on; says why and what to do."""


class InterruptedTrainingError(TrainingError):
    """Training was told to stop; its state is on disk and the next run continues it."""
