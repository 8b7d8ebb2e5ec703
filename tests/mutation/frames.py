"""What lets the ledger be mutated: mutmut's own frames count as frames of the ledger."""

# The ledger looks up the stack to see whether a signal handler asks it in the middle of its work.
# mutmut puts a frame of its own before each function, which would look like such a handler.

from mutmut.mutation import trampoline

trampoline.__name__ = "keybrake.ledger.mutmut"
