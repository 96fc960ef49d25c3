"""Frozen values without `dataclasses`, whose import takes a third of what `appb run` may take."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Value:
    """A base class: the annotations of a subclass are its fields, given by name, then frozen."""

    def __init__(self, **fields: Any) -> None:
        for name in fields.keys() - self._names():
            raise TypeError(f"{type(self).__name__} has no field {name}")
        for name in self._names():
            if name not in fields and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        pairs = zip(self._names(), self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(n for c in reversed(cls.__mro__) for n in vars(c).get("__annotations__", ()))

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._names())
