"""
Hook the vendors' SDKs before a program's first line.

``keybrake exec`` puts this folder on PYTHONPATH, and so does a program that starts another one inside a
run: every Python below them comes by here. It must not fail into a program that runs unguarded.

Below ``keybrake exec`` the SDKs are hooked at once. Below a run they are hooked when the program
imports one: most programs never do, and should not notice.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 -- pathlib takes time to load


class _Guard:
    """Hooks the vendors' SDKs when the first of them is imported; without hooks, none is."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_in = False

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find an SDK where Python does, once it is guarded; leave everything else alone."""
        if name not in ("stripe", "twilio", "resend"):
            return None
        with self._lock:
            if not self._is_in:
                self._install(name)
                self._is_in = True
                sys.meta_path.remove(self)
        return importlib.util.find_spec(name)

    def _install(self, name: str) -> None:
        try:
            from keybrake import sdk

            sdk.install()
        except Exception as error:
            msg = (
                f"{name} is not imported: this program was started inside a run of keybrake, and "
                f"keybrake cannot guard it in {sys.executable}: {error}"
            )
            raise ImportError(msg, name=name) from error


def _begin() -> None:
    if "KEYBRAKE_CREDENTIALS" in os.environ:
        _install_now()
    else:
        sys.meta_path.insert(0, _Guard())


def _install_now() -> None:
    try:
        from keybrake import install
    except ImportError:
        # The credentials are not here either: what this process calls, the vendors refuse.
        sys.stderr.write(
            f"keybrake: not installed for {sys.executable}: its vendor calls are not guarded, and "
            f"have no credential\n"
        )
        return
    from keybrake.config.config_file import NobodyInFront

    try:
        install()
    except NobodyInFront as error:
        # What is left running after it need not call a vendor; if it does, that is refused.
        sys.stderr.write(f"keybrake: vendor calls are refused here: {error}\n")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the program must not begin
        sys.stderr.write(f"keybrake: the vendors' SDKs cannot be guarded here: {error}\n")
        sys.stderr.flush()
        os._exit(1)


def _go_on() -> None:
    """Run the sitecustomize that this one stands before, if there is one."""
    elsewhere = [path for path in sys.path if os.path.abspath(path) != _HERE]  # noqa: PTH100 -- see above
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if found is not None and found.loader is not None:
        module = importlib.util.module_from_spec(found)
        sys.modules["sitecustomize"] = module
        found.loader.exec_module(module)


try:
    _begin()
    _go_on()
except KeyboardInterrupt:
    # Out of here it would be a fatal error of Python's. It ends this process as it would any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
