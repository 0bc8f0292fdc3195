"""What a refusal is on the wire: the branch of the error tree is the gRPC status."""

from launcher_hook.errors import HookError, HostError, InputError, PlanError, SchemaError
from launcher_hook.leangrpc import grpc

_STATUS: tuple[tuple[type[HookError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (HostError, grpc.StatusCode.FAILED_PRECONDITION),
    (PlanError, grpc.StatusCode.FAILED_PRECONDITION),
    (SchemaError, grpc.StatusCode.INTERNAL),
)


def status_of(error: Exception) -> grpc.StatusCode:
    """Give an error's status; one that is none of ours is INTERNAL."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL
