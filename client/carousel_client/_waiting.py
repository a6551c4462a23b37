"""What a caller gets for its block: answers, or the error that carries them."""

from __future__ import annotations

import copy
from typing import Any

from carousel_client._arrays import answers, by_output, meant
from carousel_client._block import Block
from carousel_client._errors import CarouselError, DeadlineExceeded, GroupError
from carousel_client._models import TensorInfo

#: How much longer than its deadline a caller waits, in seconds: the server's own answer, which
#: says how far the steps came, is then about to arrive.
GRACE = 0.1


def late(block: Block) -> DeadlineExceeded:
    """Return the error of a caller whose time ran out before the server answered."""
    return DeadlineExceeded(
        f"no answer within {block.timeout:g} s; the steps may still be run: `applied` tells, once "
        "the server answers again"
    )


def result(block: Block, *, grouped: bool, unanswered: CarouselError | None = None) -> Any:
    """Return a block's answers in the form of its inputs, or raise its error.

    `unanswered` befalls the rows that are still open.
    """
    if not grouped and unanswered is None and not block.failures:
        model = block.roster.model
        return answers(model, block.flat_outputs(), block.lengths, block.form, grouped=False)
    errors = dict(block.failures)
    if unanswered is not None:
        for row in range(len(block.lengths)):
            if block.answered[row] < block.lengths[row] and row not in errors:
                errors[row] = _about(unanswered, block, row)
    model, outputs = block.roster.model, block.flat_outputs()
    if not errors:
        return answers(model, outputs, block.lengths, block.form, grouped=grouped)

    def answered(spec: TensorInfo, row: int) -> Any:
        begin = int(block.starts[row])
        steps = outputs[spec.name][begin : begin + int(block.answered[row])]
        return meant(spec, steps.copy(), block.form)

    if grouped:
        rows = range(len(block.lengths))
        lists = by_output(model, lambda spec: [answered(spec, row) for row in rows])
        raise GroupError(errors, rows=len(rows), answers=lists)
    error = errors[0]
    if block.answered[0]:
        error.answers = by_output(model, lambda spec: answered(spec, 0))
    raise error


def _about(error: CarouselError, block: Block, row: int) -> CarouselError:
    own = copy.copy(error)
    own.session = block.roster.ids[row]
    own.applied = int(block.roster.applied[row])
    return own
