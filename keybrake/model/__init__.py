"""The nouns that every folder speaks: call, money, clock, vault key. They import nothing above."""
