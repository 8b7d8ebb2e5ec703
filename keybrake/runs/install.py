"""``install()`` and ``uninstall()``: the SDK hooks, imported on first use together with wrapt."""

from __future__ import annotations

from keybrake.runs.arguments import check_policies


def install() -> None:
    """
    Hook every supported SDK that is, or will be, imported into this process.

    ``run()`` and ``issue_vault_key()`` call this. A process that opens no run but has
    ``KEYBRAKE_VAULT_KEY`` in its environment must call it before its first vendor call; it then also
    fetches the configured credentials. Calling it twice has no effect.

    Raises:
        UnsupportedSDK: keybrake cannot guard the version of an imported SDK, or that SDK lacks the
            functions to hook.
        PolicyError: The configuration is invalid.
    """
    from keybrake import credentials, sdk

    sdk.install()
    check_policies()
    credentials.fetch_at_start()


def uninstall() -> None:
    """
    Remove the hooks from the SDKs; wrappers by other libraries stay.

    Raises:
        PolicyError: A run is open in this process; its calls would be unguarded.
    """
    from keybrake import sdk

    sdk.uninstall()
