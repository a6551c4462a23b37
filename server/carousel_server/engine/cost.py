"""What a run costs, as far as it can be told before it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunCost:
    """Seconds of a run of `steps` steps of `rows` rows: `run + steps * (step + rows * row)`.

    Measured when a model is loaded; a guess is good enough where it is not.
    """

    run: float = 100e-6  # whatever its size
    step: float = 10e-6  # of a step, whatever the rows
    row: float = 2e-6  # of a row in a step

    def seconds(self, steps: int, rows: int) -> float:
        """Return the cost of one run."""
        return self.run + steps * (self.step + rows * self.row)

    def steps_within(self, seconds: float, rows: int) -> int:
        """Return how many steps of so many rows can be run in a time."""
        return int(seconds / (self.step + rows * self.row))

    def rows_within(self, seconds: float) -> int:
        """Return how many rows of one step can be run in a time, all together."""
        return max(0, int((seconds - self.run - self.step) / self.row))
