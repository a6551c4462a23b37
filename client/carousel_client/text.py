"""Text from a language model that is served: drawn by lot, or found by beam search.

```python
import carousel_client as carousel

with carousel.connect("localhost:8001") as client, client.open("shakespeare") as session:
    print(carousel.text.generate(session, "The storm ", 200, temperature=0.7))
```

A language model takes text, one symbol a step, and answers with the probabilities of the next
symbol; `carousel.aio.text` has the same functions for asyncio. The symbol that stands for unknown
characters is never written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from carousel_client._classes import Chance
from carousel_client._sync_session import Session, step_each
from carousel_client._writing import Heirs, Hypothesis, Language, Search, Writer

__all__ = ["Hypothesis", "beam", "generate", "write"]


def generate(
    session: Session,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    rng: Chance = None,
) -> str:
    """Return `length` symbols of text that follow on `prompt`, drawn one after the other.

    The session goes on from where it stands, and has taken in prompt and text in the end. Of each
    answer's probabilities p, p^(1/temperature) are the weights of the draw: at 0 it is the most
    probable symbol. `rng` is a numpy generator, or a seed. Raises InvalidInput for a model that is
    no language model, and what `Session.step` raises.
    """
    return "".join(write(session, prompt, length, temperature=temperature, rng=rng))


def write(
    session: Session,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    rng: Chance = None,
) -> Iterator[str]:
    """Yield the text that `generate` returns, a symbol at a time, as soon as it is there.

    What was yielded the session has taken in. Raises as `generate`.
    """
    writer = Writer(session.info, length, temperature, rng)
    answer = _read(session, writer.language, prompt)
    for _ in range(length):
        number = writer.next(answer)
        answer = session.step(writer.language.step(number))
        yield writer.language.text([number])


def beam(session: Session, prompt: str, length: int, *, beams: int = 4) -> list[Hypothesis]:
    """Return the most probable texts of `length` symbols that follow on `prompt`, best first.

    Found by beam search: of all texts one symbol longer, the `beams` most probable are kept each
    time. So there may be better ones, unless `beams` is large enough to keep all. Each text that
    is kept has a fork of the session, which is closed in the end. The session itself takes in the
    prompt alone; to go on with a text, step it. Raises as `generate`.
    """
    search = Search(session.info, length, beams)
    heirs = search.extend([_read(session, search.language, prompt)])
    forks: list[Session] = []
    with ExitStack() as stack:  # closes every fork, whatever happens
        for _ in range(length - 1):
            forks = _inherit(forks, session, heirs, stack)
            steps = map(search.language.step, heirs.symbols)
            heirs = search.extend(step_each(forks, steps))
    return search.hypotheses()


def _read(session: Session, language: Language, prompt: str) -> Any:
    answer = None
    for chunk in language.prompt(prompt):
        answer = session.step(chunk)
    return answer


def _inherit(before: list[Session], root: Session, heirs: Heirs, stack: ExitStack) -> list[Session]:
    """Return a session for each heir, where its parent's is: the parent's own, or a fork of it.

    Without any before, all are forks of the root.
    """

    def heir(parent: int, *, first: bool) -> Session:
        if not before:
            return stack.enter_context(root.fork_one())
        return before[parent] if first else stack.enter_context(before[parent].fork_one())

    pairs = zip(heirs.parents, heirs.first, strict=True)
    forks = [heir(parent, first=first) for parent, first in pairs]
    if before:
        for childless in heirs.childless:
            before[childless].close()
    return forks
