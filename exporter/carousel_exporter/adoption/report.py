"""What was proposed for a file, and what came of adopting it."""

from __future__ import annotations

from dataclasses import dataclass

from carousel.v1 import manifest_pb2
from carousel_exporter.equality import Check
from carousel_exporter.verification import Report


@dataclass(frozen=True)
class Pair:
    """A state as it is in the original file, and why it is taken for one.

    `shape` is the original's with the batch as 1; `batch_axis` is None where there is no batch
    axis. `evidence` are the reasons in words, the strongest first.
    """

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    batch_axis: int | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class TensorAxes:
    """An input or output that is no state, as it is in the original file.

    `shape` has "T" and "B" where steps and rows are counted; either axis may be None. `step` is the
    shape of what a client sends or gets for each step of the new file.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    batch_axis: int | None
    time_axis: int | None
    step: tuple[int, ...]


@dataclass(frozen=True)
class Proposal:
    """What every tensor of a file is taken for. `form` is "sequence" or "step".

    `proposed` says whether anything was found rather than stated; `command` states all of it.
    """

    pairs: tuple[Pair, ...]
    inputs: tuple[TensorAxes, ...]
    outputs: tuple[TensorAxes, ...]
    form: str
    proposed: bool
    notes: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class AdoptionReport:
    """A file that was adopted. Node counts include nodes inside of branches and loops.

    `max_batch` is 0 for any number of rows; `batching` says what was tried. `checks` are runs of
    the new file beside the original and beside itself, with their largest differences.
    """

    proposal: Proposal
    manifest: manifest_pb2.ModelManifest
    nodes_before: int
    nodes_after: int
    ifs_before: int
    ifs_after: int
    opset_before: int
    opset_after: int
    max_batch: int
    batching: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def batchable(self) -> bool:
        """Whether rows may share a run."""
        return self.max_batch != 1

    @property
    def command(self) -> str:
        """The command line that states what was proposed."""
        return self.proposal.command

    @property
    def verification(self) -> Report:
        """The checks in the form that `verify` prints."""
        return Report(self.checks, self.notes)
