"""The public functions: run, vault key, tool, pause, revoke. They check arguments, open scopes."""
