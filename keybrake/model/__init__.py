"""Basic types that every folder uses: call, money, clock, vault key. They import only errors."""
