"""What FROM means on this machine, and how its tree is fetched."""

from __future__ import annotations

from collections.abc import Callable

from boxwright.errors import FetchError
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.ports import ResolvedBase
from boxwright.store.store import Store
