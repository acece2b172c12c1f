"""The contract both sides implement: parameters, memory layout, commands, status codes.

Nothing here computes a result or a cycle. `golden/` and `rtl/` both import it and never each other,
so a misunderstanding of the *algorithm* in one of them cannot leak into the other.
"""
