"""The messages and methods of `proto/autolrs/v1`, made from the files themselves when the tests begin."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[3] / "proto"

# Every method that was called and answered, as /autolrs.v1.JobService/GetJob.
answered: set[str] = set()


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    files = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "autolrs/v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "descriptors.bin"
        include = Path(protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{PROTO}", f"-I{include}", "--include_imports", f"--descriptor_set_out={out}"]
        assert protoc.main([*arguments, *files]) == 0, "protoc refused the proto"
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return pool


def message(name: str, **fields: Any) -> Any:
    """A message of `autolrs.v1`."""
    return _class(name)(**fields)


@cache
def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"autolrs.v1.{name}"))


@cache
def number(enum: str, value: str) -> int:
    """The number of an enum's value: `number("Phase", "PHASE_TRIAL")`."""
    return int(_pool().FindEnumTypeByName(f"autolrs.v1.{enum}").values_by_name[value].number)


@cache
def name(enum: str, value: int) -> str:
    """The name of an enum's value."""
    return str(_pool().FindEnumTypeByName(f"autolrs.v1.{enum}").values_by_number[value].name)


def methods() -> list[Any]:
    """The descriptors of all methods."""
    services = ("TrainerService", "JobService", "StoreService")
    return [m for service in services for m in _pool().FindServiceByName(f"autolrs.v1.{service}").methods]


class Api:
    """All methods, each called as `api.GetJob(name="toy")`; a streaming method gives the call itself."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        for method in methods():
            setattr(self, method.name, self._callable(method))

    def _callable(self, method: Any) -> Any:
        path = f"/{method.containing_service.full_name}/{method.name}"
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        coders = {"request_serializer": request.SerializeToString, "response_deserializer": response.FromString}
        if method.client_streaming:
            stream = self.channel.stream_stream(path, **coders)
            return lambda requests: _noting(path, stream(requests))
        if method.server_streaming:
            watch = self.channel.unary_stream(path, **coders)
            return lambda **fields: _noting(path, watch(request(**fields)))
        call = self.channel.unary_unary(path, **coders)

        def unary(**fields: Any) -> Any:
            answer = call(request(**fields), timeout=30)
            answered.add(path)
            return answer

        return unary

    def close(self) -> None:
        self.channel.close()


class _Noted:
    """A stream whose first message counts as an answer."""

    def __init__(self, path: str, call: Any) -> None:
        self._path, self._call = path, call

    def __iter__(self) -> _Noted:
        return self

    def __next__(self) -> Any:
        received = next(self._call)
        answered.add(self._path)
        return received

    def cancel(self) -> None:
        self._call.cancel()


def _noting(path: str, call: Any) -> _Noted:
    return _Noted(path, call)


class Refused:
    """What an error says in its details."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()
        self.text = str(error.details())
        self.reason, self.metadata, self.fields, self.retry = "", {}, {}, None
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else []:
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = {violation.field: violation.description for violation in bad.field_violations}
            elif detail.Unpack(retry):
                self.retry = retry.retry_delay
