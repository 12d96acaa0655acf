"""Tells as JSON what TensorFlow is after an import: by Python's own, or by the trainer's.

Each module that was put off is asked first, in a process of its own, so that none is made complete
by what another one imported.
"""

import inspect
import json
import os
import sys
from typing import Any

NOT_REGISTERED = {
    "AudioMicrofrontend",
    "DebugGradientIdentity",
    "DebugGradientRefIdentity",
    "DebugIdentityV2",
}
"""Gradients that are there once the function that makes such an operation is."""
_INTERFACE = "tensorflow._api.v2."
_OPERATIONS = "tensorflow.python.ops.gen_"


def _interface() -> list[str]:
    return [name for name in sys.modules if name.startswith(_INTERFACE)]


def _asked_first(name: str) -> list[str]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            told = json.dumps(dir(sys.modules[name]))
        except Exception as error:
            told = json.dumps([repr(error)])
        with os.fdopen(writing, "w") as pipe:
            pipe.write(told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names: list[str] = json.load(pipe)
    os.wait()
    return names


def _signatures() -> dict[str, str]:
    """Return the signature of each function that makes an operation."""
    modules = [name for name in sys.modules if name.startswith(_OPERATIONS)]
    return {
        f"{module}.{name}": str(inspect.signature(function))
        for module in modules
        for name, function in vars(sys.modules[module]).items()
        if inspect.isfunction(function) and function.__module__ == module
    }


def main(how: str) -> dict[str, Any]:
    """Import TensorFlow and return what is there."""
    if how == "trainer":
        from rtj_trainer import startup
        from rtj_trainer.on_demand import _Pending

        startup.begin_import()
        startup.end_import()
        put_off = [name for name in _interface() if isinstance(sys.modules[name], _Pending)]
    else:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401

        put_off = []
    found: dict[str, Any] = {"executed": len(sys.modules) - len(put_off)}
    from tensorflow.python.framework.ops import gradient_registry

    found["gradients"] = sorted(gradient_registry.list())
    found["signatures"] = _signatures()
    found["put_off"] = {name: _asked_first(name) for name in put_off}
    if how == "python":
        found["modules"] = {name: dir(sys.modules[name]) for name in _interface()}
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))  # noqa: T201 - its answer
