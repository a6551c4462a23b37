"""Step messages on their way into the engine, and answers on their way out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from carousel.v1 import sessions_pb2
from carousel_server.catalog import Catalog, Served, first_handle
from carousel_server.engine.batch import Answer, refusal
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.status import RowStatus
from carousel_server.errors import CarouselError
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.columns import AnswerWriter, read_step
from carousel_server.rpc.status import to_status
from carousel_server.spans import StepSpan, StepSpans

#: Takes an answer's message to its client.
Send = Callable[[sessions_pb2.StreamResponse], None]


class StepGate:
    """Checks step messages, hands them to engines, and makes messages of the answers."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        lifecycle: Lifecycle,
        limits: EngineLimits,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._lifecycle = lifecycle
        self._limits = limits
        self._clock = clock
        self._writers: dict[int, AnswerWriter] = {}

    def submit(
        self,
        request: sessions_pb2.StepRequest,
        send: Send,
        *,
        stream: int = 0,
        whole: bool = False,
        spans: StepSpans | None = None,
    ) -> None:
        """Have a message's rows run; `send` gets the answers, the last one `done`.

        Streams get even shares of a busy engine by their number. With `whole` there is one answer,
        when all rows are over; otherwise parts of it come as soon as they are there. What is wrong
        with the message is an answer too, and not raised. `spans` makes the span of a message that
        is traced.
        """
        span = spans.begin(request) if spans else None
        if span:
            send = partial(_noted, span, send)
        try:
            self._submit(request, send, stream=stream, whole=whole, span=span)
        except CarouselError as error:
            send(failure(request.id, error))

    def _submit(
        self,
        request: sessions_pb2.StepRequest,
        send: Send,
        *,
        stream: int,
        whole: bool,
        span: StepSpan | None,
    ) -> None:
        self._lifecycle.refuse_when_draining()
        handle = first_handle(request.handles)
        model = self._catalog.find_running(request.model, request.version, handle)
        batch = read_step(
            request,
            model.spec,
            self._limits,
            partial(self._reply, self._writer(model), request.id, send),
            deadline=self._deadline(request.timeout_ms),
            stream=stream,
            whole=whole,
        )
        if request.server_id != self._lifecycle.server_id:
            why = (
                f"the handles were given by server {request.server_id:#x}, this is "
                f"{self._lifecycle.server_id:#x}; attach again"
            )
            batch.reply(refusal(batch, RowStatus.STALE_HANDLE, why))
            return
        if span:
            span.follow(batch)
        model.driver.submit(batch)

    def _writer(self, model: Served) -> AnswerWriter:
        writer = self._writers.get(model.number)
        if writer is None:  # of a model that is new; those that are gone are forgotten
            self._writers = {m.number: AnswerWriter(m.spec) for m in self._catalog.all()}
            writer = self._writers[model.number]
        return writer

    def _deadline(self, timeout_ms: int) -> float:
        return self._clock() + timeout_ms / 1000 if timeout_ms else math.inf

    @staticmethod
    def _reply(writer: AnswerWriter, request_id: int, send: Send, answer: Answer) -> None:
        response = sessions_pb2.StreamResponse()
        step = response.step
        step.id = request_id
        writer.write(answer, step)
        send(response)


def _noted(span: StepSpan, send: Send, response: sessions_pb2.StreamResponse) -> None:
    span.answered(response.step)
    send(response)


def failure(request_id: int, error: CarouselError) -> sessions_pb2.StreamResponse:
    """Return the answer to a message of which nothing ran."""
    step = sessions_pb2.StepResponse(id=request_id, done=True, error=to_status(error))
    return sessions_pb2.StreamResponse(step=step)
