"""Waiting chunks of one session become one longer chunk, and its answers are split again.

This is what makes a fast source cheap: however many steps wait, they cost one message.
"""

from __future__ import annotations

import numpy as np

from carousel_client._arrays import Chunks
from carousel_client._block import Barrier, Block, Roster, Waiting
from carousel_client._outcomes import not_run


def head(roster: Roster, *, max_steps: int) -> Waiting | None:
    """Return what the roster does next, with waiting chunks of a single session joined."""
    if not roster.blocks:
        return None
    first = roster.blocks[0]
    if len(roster.blocks) == 1 or len(roster.ids) > 1 or isinstance(first, Barrier):
        return first
    if first.replay or first.alone or not first.untouched:
        return first
    return _join(roster, first, max_steps)


def _join(roster: Roster, first: Block, max_steps: int) -> Block:
    """Return one block for as many of the waiting ones as fit into a chunk, put in their place."""
    steps, fitting = 0, list[Block]()
    for block in roster.blocks:
        if isinstance(block, Barrier) or block.alone or block.timeout != first.timeout:
            break
        steps += int(block.lengths[0])
        if fitting and steps > max_steps:
            break
        fitting.append(block)
    if len(fitting) == 1:
        return first
    inputs = {
        name: np.concatenate([block.inputs[name] for block in fitting]) for name in first.inputs
    }
    lengths = np.array([sum(int(block.lengths[0]) for block in fitting)], np.int64)
    deadlines = [block.deadline for block in fitting if block.deadline is not None]
    joined = Block(
        roster,
        Chunks(inputs, lengths, "chunk"),
        timeout=first.timeout,
        deadline=max(deadlines, default=None),
    )
    # One that was joined before, and is to be sent again, gives way to its own parts.
    joined.parts = [part for block in fitting for part in block.parts or (block,)]
    for part in joined.parts:
        part.carrier = joined
    for _ in fitting:
        roster.blocks.popleft()
    roster.blocks.appendleft(joined)
    return joined


def split(joined: Block) -> None:
    """Give each part its answers, and the failure to the part it happened in.

    The parts behind a failure were not run.
    """
    cause, left = joined.failures.get(0), int(joined.answered[0])
    failure = cause
    outputs, begin = joined.flat_outputs(), 0
    for part in joined.parts:
        asked = int(part.lengths[0])
        got = min(left, asked)
        part.answered[0] = got
        part.outputs = {name: flat[begin : begin + asked] for name, flat in outputs.items()}
        if got < asked and failure is not None and cause is not None:
            part.failures[0] = failure
            failure = not_run(part.roster, 0, cause)
        part.open = 0
        begin, left = begin + asked, left - got
