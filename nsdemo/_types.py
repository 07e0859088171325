"""The types of the options, as a type checker takes them. No call loads them.

``_request/given.py`` and ``_api.pyi`` use these names; ``help`` shows what they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from ._launch.container import Container
from ._request.values import HasFileno, OneLimit, StrOrBytesPath, StrPath

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as ReadableBuffer
else:
    ReadableBuffer = bytes | bytearray | memoryview  # and what else collections.abc.Buffer is


class ExportsBpfMem(Protocol):
    """A filter of pyseccomp."""

    def export_bpf_mem(self) -> bytes:
        """Its program."""


class ExportsBpf(Protocol):
    """A filter of libseccomp's own binding."""

    def export_bpf(self, file: Any, /) -> object:
        """Write its program to a file."""


Command = Sequence[StrOrBytesPath]
Environment = Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath]
File = int | IO[Any] | HasFileno | None
Filter = ReadableBuffer | ExportsBpfMem | ExportsBpf
IdMap = Iterable[Sequence[int]] | Literal["auto", "current", "subids", "all"]
Input = str | ReadableBuffer
Limit = OneLimit | tuple[OneLimit, OneLimit] | list[OneLimit]
Process = Container[Any] | int | HasFileno
Target = Process | StrPath
