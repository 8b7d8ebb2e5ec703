"""``install()`` and ``uninstall()``: the hooks, and wrapt with them, load on first use."""

from __future__ import annotations

from keybrake.runs.arguments import check_policies


def install() -> None:
    """
    Hook every supported SDK that is, or will be, imported into this process.

    ``run()`` and ``issue_vault_key()`` do this by themselves; a process that only has
    ``KEYBRAKE_VAULT_KEY`` calls it before its first vendor call, and has the credentials that the
    configuration names fetched now. Doing it twice is doing it once.

    Raises:
        UnsupportedSDK: An SDK in this process is of a version that cannot be guarded, or does
            not look the way that version should.
        PolicyError: The configuration says something that cannot be meant.
    """
    from keybrake import credentials, sdk

    sdk.install()
    check_policies()
    credentials.fetch_at_start()


def uninstall() -> None:
    """
    Take the hooks out again; wrappers of others stay as they are.

    Raises:
        PolicyError: A run is still open in this process; its calls would go out unguarded.
    """
    from keybrake import sdk

    sdk.uninstall()
