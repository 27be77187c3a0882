"""What both interceptors do with a method's handler: the same handler, with something around its work."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import grpc

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs, not at run time


def surrounded(
    handler: "Handler",
    around: Callable[[grpc.ServicerContext], AbstractContextManager[None]],
    *,
    prepare: Callable[[Any], Any] = lambda request: request,
    deserializer: Callable[[bytes], Any] | None = None,
) -> "Handler":
    """The same handler, which works within `around(context)`, on what `prepare` makes of the request or of the
    iterator of requests; bytes are read by `deserializer`, or as before.
    """
    arity = "_".join("stream" if many else "unary" for many in (handler.request_streaming, handler.response_streaming))
    behavior: Callable[[Any, grpc.ServicerContext], Any] = getattr(handler, arity)

    def once(request: Any, context: grpc.ServicerContext) -> Any:
        with around(context):
            return behavior(prepare(request), context)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from behavior(prepare(request), context)

    make = getattr(grpc, f"{arity}_rpc_method_handler")
    made = make(
        many if handler.response_streaming else once,
        request_deserializer=deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return cast("Handler", made)
