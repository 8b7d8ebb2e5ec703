"""
Hook the vendors' SDKs before a program's first line.

``keybrake exec`` puts this folder on PYTHONPATH, so that every Python it starts, and every Python that
one starts, comes by here. It must not fail into a program that runs unguarded.
"""

import importlib.machinery
import importlib.util
import os
import signal
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 -- pathlib takes time to load


def _begin() -> None:
    try:
        from keybrake import install
    except ImportError:
        # The credentials are not here either: what this process calls, the vendors refuse.
        sys.stderr.write(
            f"keybrake: not installed for {sys.executable}: its vendor calls are not guarded, and "
            f"have no credential\n"
        )
        return
    from keybrake._config_file import NobodyInFront

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
