"""Loads the user's module and calls its functions, with errors that say what to mend.

A module that cannot be imported, a function that is not there and parameters that do not fit are
permanent: the next attempt would see the same text. A builder that raises may have met a passing
trouble of its file system, so it is retried up to the job's backoffLimit.
"""

import importlib
import inspect
import os
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rtj_api.launch import BuilderConfig
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError, StopError, UserError

_TRACE_LINES = 12
_PARAMS_LENGTH = 300


def load_module(config: BuilderConfig) -> ModuleType:
    """Import the builder.

    Raises:
        PermanentError: `BuilderInvalid`: no such module, or it does not compile.
        UserError: `BuilderFailed`: its top-level code raised.
    """
    if config.path:
        sys.path.insert(0, str(config.path))
        sys.dont_write_bytecode = True  # the mount is read-only
    importlib.invalidate_caches()
    try:
        return importlib.import_module(config.module)
    except SyntaxError as error:
        raise PermanentError(
            Reason.BUILDER_INVALID,
            f"spec.builder.module: {error.filename}:{error.lineno}: {error.msg}: "
            f"{(error.text or '').strip()!r}. Correct the builder and create the job again.",
        ) from error
    except ModuleNotFoundError as error:
        raise PermanentError(Reason.BUILDER_INVALID, _module_missing(config, error)) from error
    except StopError:
        raise
    except Exception as error:
        what = f"spec.builder.module: importing {config.module}"
        raise UserError(Reason.BUILDER_FAILED, _raised(what, error, "the builder")) from error


def _module_missing(config: BuilderConfig, error: ModuleNotFoundError) -> str:
    if error.name and (config.module + ".").startswith(error.name + "."):
        where = f"{config.path}" if config.path else "the image"
        present = _modules_in(config.path) if config.path else []
        listing = f", which has {', '.join(present)}" if present else ""
        return f"spec.builder.module: no module {config.module!r} in {where}{listing}"
    return (
        f"builder module {config.module!r} imports {error.name!r}, which is not in the image; "
        "add it to the image (spec.trainer.image) or to the builder's files"
    )


def _modules_in(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(found.stem for found in path.glob("*.py"))[:20]


def get_function(module: ModuleType, name: str, field: str) -> Callable[..., Any]:
    """Return a function of the builder.

    Args:
        module: The builder.
        name: Name of the function.
        field: Field of the job that names it, for the message.

    Raises:
        PermanentError: `FunctionNotFound`, with the functions that there are.
    """
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    own = inspect.getmembers(
        module, lambda item: inspect.isfunction(item) and item.__module__ == module.__name__
    )
    names = ", ".join(found for found, _ in own) or "no function"
    raise PermanentError(
        Reason.FUNCTION_NOT_FOUND,
        f"{field}: {module.__name__} has no function {name!r}; it has {names}",
    )


def bind(module: ModuleType, kind: str, name: str, params: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of the builder with the job's parameters as keyword arguments.

    Args:
        module: The builder.
        kind: What it is for, as the fields of the job have it, such as `dataset`.
        name: Name of the function.
        params: Keyword arguments.

    Raises:
        PermanentError: `FunctionNotFound`. A call raises what `call` raises.
    """
    function = get_function(module, name, f"spec.builder.{kind}Function")
    return lambda *given: call(function, params, f"spec.builder.{kind}Params", *given)


def call(function: Callable[..., Any], params: dict[str, Any], field: str, *given: Any) -> Any:
    """Call a builder function with the job's parameters.

    Args:
        function: From `get_function`.
        params: Keyword arguments.
        field: Field of the job that holds them, for the message.
        given: Positional arguments that the trainer gives itself.

    Raises:
        PermanentError: `ParamsInvalid`: a name or a type does not fit.
        UserError: `BuilderFailed`: it raised.
    """
    check_params(function, params, field, *given)
    try:
        return function(*given, **params)
    except StopError:
        raise
    except Exception as error:
        what = f"{field}: {_name(function)}({_keywords(params)})"
        message = _raised(what, error, f"the builder, or {field}")
        raise UserError(Reason.BUILDER_FAILED, message) from error


def check_params(
    function: Callable[..., Any], params: dict[str, Any], field: str, *given: Any
) -> None:
    """Raise unless a function can be called so; see `call`.

    Raises:
        PermanentError: `ParamsInvalid`: a name or a type does not fit.
    """
    name = _name(function)
    try:
        signature = inspect.signature(function)
        signature.bind(*given, **params)
    except TypeError as error:
        raise PermanentError(
            Reason.PARAMS_INVALID,
            f"{field}: {error}; the function is {name}{signature}, the parameters are {params!r}",
        ) from error
    _check_annotated_types(name, signature, params, field)


def _check_annotated_types(
    name: str, signature: inspect.Signature, params: dict[str, Any], field: str
) -> None:
    """Compare JSON values with plain annotations; the rest is the function's affair."""
    accepted: dict[Any, tuple[type, ...]] = {
        int: (int,),
        float: (int, float),
        str: (str,),
        bool: (bool,),
        list: (list,),
        dict: (dict,),
    }
    by_name = {kind.__name__: kinds for kind, kinds in accepted.items()}
    for parameter, value in params.items():
        annotation = getattr(signature.parameters.get(parameter), "annotation", None)
        kinds = by_name.get(annotation) if isinstance(annotation, str) else accepted.get(annotation)
        if kinds is None:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = kinds[-1].__name__
            raise PermanentError(
                Reason.PARAMS_INVALID,
                f"{field}.{parameter}: {name} wants {wanted}, "
                f"the job gives {type(value).__name__} {value!r}",
            )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "function")


def _keywords(params: dict[str, Any]) -> str:
    """Return the parameters as they are written in a call, cut where they are long."""
    written = (f"{name}={value!r}" for name, value in params.items())
    return textwrap.shorten(", ".join(written), _PARAMS_LENGTH, placeholder=" …")


def _raised(what: str, error: Exception, to_correct: str) -> str:
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    trace = "\n".join(lines[-_TRACE_LINES:])
    return f"{what} raised {type(error).__name__}: {error}. Correct {to_correct}.\n{trace}"


def source_files(config: BuilderConfig, module: ModuleType) -> dict[str, Path]:
    """Return the builder's own files that are imported by now, by module name.

    These are the files below the builder's folder, or just the module's file if the image ships it.
    """
    found: dict[str, Path] = {}
    root = config.path.resolve() if config.path else None
    installed = os.path.join(sysconfig.get_path("purelib"), "")  # noqa: PTH118 - its last slash

    @cache  # Thousands of modules are in a few hundred folders.
    def is_inside(folder: str) -> bool:
        # As text: most folders are such, and to make a Path of each takes as long as all else.
        if root is None or f"{os.path.normpath(folder)}/".startswith(installed):
            return False  # A virtual environment may lie beside the program.
        return Path(folder).resolve().is_relative_to(root)

    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if not file:
            continue
        # A ConfigMap's files are links into a hidden folder: compare the folder that was asked for.
        if is_inside(os.path.dirname(file)) or name == module.__name__:  # noqa: PTH120 - hot
            found[name] = Path(file)
    return dict(sorted(found.items()))
