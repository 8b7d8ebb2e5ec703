"""The hosts a credential may be sent to: the vendors' own, and hosts that the operator allows."""
