"""The verbs that users say: run, vault key, tool, stop. They check arguments and open scopes."""
