"""Carousel's client: recurrent networks that stream, with the state at the server.

```python
import carousel_client as carousel

with carousel.connect("localhost:8001") as client, client.open("co2") as session:
    y = session.step(x)
```

`carousel.aio` is the same for asyncio. Arrays are numpy's.
"""

from carousel_client import aio, text
from carousel_client._classes import Classes
from carousel_client._errors import (
    AnswersLost,
    Busy,
    CarouselError,
    ClientClosed,
    ConnectionLost,
    DeadlineExceeded,
    GroupError,
    InvalidInput,
    MarkNotFound,
    ModelError,
    ModelNotFound,
    NumericFault,
    OutOfOrder,
    ReplayFull,
    ResourceExhausted,
    ServerError,
    SessionClosed,
    SessionError,
    SessionExists,
    SessionExpired,
    SessionLost,
    SessionMoved,
    SessionNotFound,
    SnapshotMismatch,
    StaleHandle,
    StepError,
    StoreAway,
    Unavailable,
)
from carousel_client._failover import FailoverEvent
from carousel_client._models import (
    Drain,
    Limits,
    ModelInfo,
    ServerInfo,
    SessionInfo,
    TensorInfo,
)
from carousel_client._options import Backoff
from carousel_client._sync_client import Client, connect
from carousel_client._sync_session import Session, SessionGroup
from carousel_client._tls import Tls

__version__ = "0.1.0"

__all__ = [
    "AnswersLost",
    "Backoff",
    "Busy",
    "CarouselError",
    "Classes",
    "Client",
    "ClientClosed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Drain",
    "FailoverEvent",
    "GroupError",
    "InvalidInput",
    "Limits",
    "MarkNotFound",
    "ModelError",
    "ModelInfo",
    "ModelNotFound",
    "NumericFault",
    "OutOfOrder",
    "ReplayFull",
    "ResourceExhausted",
    "ServerError",
    "ServerInfo",
    "Session",
    "SessionClosed",
    "SessionError",
    "SessionExists",
    "SessionExpired",
    "SessionGroup",
    "SessionInfo",
    "SessionLost",
    "SessionMoved",
    "SessionNotFound",
    "SnapshotMismatch",
    "StaleHandle",
    "StepError",
    "StoreAway",
    "TensorInfo",
    "Tls",
    "Unavailable",
    "aio",
    "connect",
    "text",
]
