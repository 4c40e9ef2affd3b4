"""What the user asked for, as frozen values; pure.

In: nothing. Out: ``stack.Stack`` and its parts. Everything is resolved: paths absolute, names final, variables
replaced, short forms expanded, durations in seconds (float), sizes in bytes (int). Field names are the keys of the
Compose Specification. An element that the file leaves out is ``None`` where absence differs from emptiness, else
the empty value.

``Extensions`` (the ``x-`` keys) are carried beside every element that may hold them.
"""
