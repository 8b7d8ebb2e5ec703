"""How a run follows into the programs that its code starts: by their environment."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keybrake.config import config_file, parent_process, settings, started_under
from keybrake.errors import KeybrakeError, PolicyError
from keybrake.guard import caller
from keybrake.guard.caller import Frame, RunFrame, ToolFrame, active
from keybrake.ledger import Ledger, NewRun
from keybrake.ledger.stores.sqlite.ledger_files import path_of
from keybrake.model import clock, vault_key
from keybrake.policy import policy
from keybrake.sdk.patch import Hook

_log = logging.getLogger("keybrake")

_STARTUP = Path(__file__).parent / "startup"
# Every vendor call is refused under a key that is none.
_NO_KEY = ""
_NO_LIMITS = policy.terms_of(policy.Policy(cap=None))


class _Bound(NamedTuple):
    """The key that binds a program started here, and the scope of the key if there is one."""

    key: str
    ledger: Ledger | None = None
    scope: int | None = None


def environment(given: Mapping[Any, Any] | None) -> dict[str, str] | None:
    """
    Return the environment for a program that is started here; None: nothing binds it.

    It holds the key of the run around, and the folder from which every Python guards the vendors'
    SDKs when it imports one. A key that is in it already stays if it stands under that run.

    Args:
        given: The environment that the caller chose; None: that of this process.
    """
    bound = _bound(active.get())
    if bound is None:
        return None
    made = {
        os.fsdecode(name): os.fsdecode(value)
        for name, value in (os.environ if given is None else given).items()
    }
    if not _stands_under(made.get(started_under.AMBIENT_KEY), bound):
        made[started_under.AMBIENT_KEY] = str(bound.key)
    if bound.ledger is not None:
        made["KEYBRAKE_LEDGER"] = bound.ledger.url
    # A program that is to find the settings may work in another folder, with few variables.
    for name, value in _settings().items():
        made.setdefault(name, value)
    path = made.get("PYTHONPATH")
    if str(_STARTUP) not in (path or "").split(os.pathsep):
        made["PYTHONPATH"] = f"{_STARTUP}{os.pathsep}{path}" if path else str(_STARTUP)
    return made


def _bound(frame: Frame | None) -> _Bound | None:
    tools: list[ToolFrame] = []
    for around in caller.frames(frame):
        if isinstance(around, ToolFrame):
            tools.append(around)
        elif isinstance(around, RunFrame):
            return _by_run(around, tools)
    if tools:
        return _Bound(_NO_KEY)
    key = next(iter(started_under.vault_keys()), None)
    return None if key is None else _Bound(key)


def _by_run(run: RunFrame, tools: list[ToolFrame]) -> _Bound:
    # One key stands for one line of scopes.
    if len(tools) > 1 or set(run.scopes) - set(run.ledger.chain(run.pk)):
        _log.warning(
            "%s: a program is started inside several tools, or inside two runs of which neither "
            "contains the other; its vendor calls are refused",
            run.label,
        )
        return _Bound(_NO_KEY, run.ledger)
    # A program that an SDK starts while it sends, such as `uname` for its user agent, is no agent:
    # it needs no run of its own under the tool.
    if tools and not any(caller.on_the_wire()):
        return _in_tool(run, tools[0])
    return _Bound(run.handle.key, run.ledger, run.pk)


_keys_of_tools: dict[tuple[Ledger, int], str] = {}


def _in_tool(run: RunFrame, tool: ToolFrame) -> _Bound:
    """Return the key of a run that stands under a tool, opening it for the first program."""
    ledger, scope = run.ledger, run.ledger.tool(run.pk, tool.name, tool.terms)
    if (ledger, scope) not in _keys_of_tools:
        key, above = vault_key.make(), ledger.run(run.pk)
        left = None if above.expires_at is None else above.expires_at - clock.now()
        ledger.open_run(
            NewRun(
                uid=f"run_{secrets.token_hex(8)}",
                label=run.label,
                terms=_NO_LIMITS,
                lives_for=None if left is None else max(1, left),
                key_hash=vault_key.digest(key),
                parent=scope,
            )
        )
        _keys_of_tools[ledger, scope] = key
    return _Bound(_keys_of_tools[ledger, scope], ledger, scope)


def _stands_under(key: str | None, bound: _Bound) -> bool:
    """Return whether a key binds a program to all that is around here, and perhaps to more."""
    if key is None or key == bound.key or not vault_key.is_wellformed(key) or bound.key == _NO_KEY:
        return False
    try:
        ledger, scope = bound.ledger, bound.scope
        if ledger is None or scope is None:
            ledger, record = caller.join(bound.key)
            scope = record.pk
        return scope in ledger.chain(caller.join(key, ledger)[1].pk)
    except KeybrakeError:
        return False


def _settings() -> dict[str, str]:
    """Return the variables that name the ledger and the configuration of this process."""
    made: dict[str, str] = {}
    with contextlib.suppress(PolicyError):
        made["KEYBRAKE_LEDGER"] = f"sqlite:///{path_of(settings.current().ledger)}"
        if parent_process.address is not None:
            made[parent_process.ADDRESS] = parent_process.address
        elif (file := config_file.find_file()) is not None:
            made["KEYBRAKE_CONFIG"] = str(file.absolute())
    return made


# In ``_execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, …)``.
_ENV = 6

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


def _execute_child(wrapped: Callable[..., Any], _process: Any, args: Args, kwargs: Kwargs) -> Any:
    if len(args) <= _ENV:
        return wrapped(*args, **{**kwargs, "env": environment(kwargs["env"]) or kwargs["env"]})
    given = args[_ENV]
    return wrapped(*args[:_ENV], environment(given) or given, *args[_ENV + 1 :], **kwargs)


def _with_environment(wrapped: Callable[..., Any], _path: Any, args: Args, kwargs: Kwargs) -> Any:
    """Start a program, or become one, by a function that takes the environment as its last argument."""
    if "env" in kwargs:
        return wrapped(*args, **{**kwargs, "env": environment(kwargs["env"]) or kwargs["env"]})
    *rest, given = args
    return wrapped(*rest, environment(given) or given, **kwargs)


def _execv(wrapped: Callable[..., Any], path: Any, args: Args, kwargs: Kwargs) -> Any:
    made = environment(None)
    if made is None:
        return wrapped(*args, **kwargs)
    *first, argv = args
    return os.execve(first[0] if path is None else path, argv, made)  # noqa: S606 -- as the caller does


def _system(wrapped: Callable[..., Any], command: Any, args: Args, kwargs: Kwargs) -> Any:
    made = environment(None)
    if made is None:
        return wrapped(*args, **kwargs)
    if command is None:
        command = args[0] if args else kwargs["command"]
    # C's system() takes no environment, and this process's own is every thread's.
    status = subprocess.call(command, shell=True, env=made)  # noqa: S602 -- as the caller does
    return -status if status < 0 else status << 8


HOOKS = (
    # Below Popen.__init__, which tracers and mocks replace, and put back as it was before.
    Hook("subprocess", "Popen._execute_child", _execute_child, ("env",)),
    Hook("gevent.subprocess", "Popen._execute_child", _execute_child, ("env",)),
    Hook("os", "posix_spawn", _with_environment, present=lambda os: hasattr(os, "posix_spawn")),
    Hook("os", "posix_spawnp", _with_environment, present=lambda os: hasattr(os, "posix_spawnp")),
    Hook("os", "execve", _with_environment),
    Hook("os", "execv", _execv),
    Hook("os", "system", _system),
)
