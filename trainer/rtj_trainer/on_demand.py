"""Executes a module when something of it is read, and not when it is named in an import.

`import tensorflow` executes the whole of TensorFlow's public interface: hundreds of modules of
names, among them those of TensorFlow 1 and of TFLite, and all that these import in turn. A training
reads a few of them. What the others would register besides, such as the gradient of an operation,
belongs to what they define, and is there once that is asked for. Keras also imports packages that
only draw tables or fetch files.

Nobody has to know: such a module is in `sys.modules` with its name and spec. Whoever reads anything
else of it, or imports a module below it, finds it executed. Only of a module of names is a single
one had for less: the line `from … import …` that gives it is followed, without the others.
"""

import re
import sys
from collections.abc import Container, Iterable, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any, cast

_NAMING = re.compile(r"^from (\w[\w.]*) import (\w+)(?: as (\w+))?(?: *#.*)?$", re.MULTILINE)


def execute_on_demand(package: str, *modules: str) -> None:
    """From now on, put off what is imported for the first time: all below a package, and others."""
    sys.meta_path.insert(0, _Finder(f"{package}.", modules))


class _Finder(MetaPathFinder):
    def __init__(self, prefix: str, names: Container[str]) -> None:
        self._prefix = prefix
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not (fullname.startswith(self._prefix) or fullname in self._names):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, InspectLoader):
            spec.loader = _PuttingOff(spec.loader)
        return spec


class _PuttingOff(Loader):
    """Leaves a module as it is until it is told to execute it."""

    def __init__(self, loader: InspectLoader) -> None:
        self._loader = loader
        self._lock = RLock()
        self._begun = False
        self._lines: dict[str, tuple[str, str]] | None = None

    def exec_module(self, module: ModuleType) -> None:
        # Whoever imports a module below this one then asks for it in vain, and so has it executed.
        vars(module).pop("__path__", None)
        module.__class__ = _Pending

    def provide(self, module: ModuleType, name: str) -> None:
        """Give a module what it has by some name, if it has it: at best without executing it."""
        if (line := self._names(module).get(name)) and not self._begun:
            setattr(module, name, _imported(*line))
        else:
            self.execute(module)

    def execute(self, module: ModuleType) -> None:
        """Execute it, once.

        Another thread waits meanwhile; the one that executes it reads what is there already.
        """
        with self._lock:
            if self._begun:
                return
            self._begun = True
            spec = cast(ModuleSpec, module.__spec__)
            try:
                if spec.submodule_search_locations is not None:
                    module.__path__ = spec.submodule_search_locations
                self._loader.exec_module(module)
            except BaseException:
                self._begun = False
                raise
            spec.loader = module.__loader__ = self._loader
            module.__class__ = ModuleType

    def _names(self, module: ModuleType) -> dict[str, tuple[str, str]]:
        """Return which name of which other module each line gives."""
        if self._lines is None:
            found = _NAMING.findall(self._loader.get_source(module.__name__) or "")
            others = (line for line in found if line[0] != module.__name__)
            self._lines = {known or own: (where, own) for where, own, known in others}
        return self._lines


def _imported(where: str, name: str) -> Any:
    """Return what `from where import name` gives."""
    module = import_module(where)
    return getattr(module, name) if hasattr(module, name) else import_module(f"{where}.{name}")


class _Pending(ModuleType):
    """A module that has not been executed yet."""

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.__loader__, _PuttingOff):
            self.__loader__.provide(self, name)
        return ModuleType.__getattribute__(self, name)

    def __dir__(self) -> Iterable[str]:
        if isinstance(self.__loader__, _PuttingOff):
            self.__loader__.execute(self)
        return ModuleType.__dir__(self)
