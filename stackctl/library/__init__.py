"""The public Python API and the pytest plugin; a composition root of the stack half.

What comes in: a stack file or YAML text. What goes out: a ``Stack`` that comes up, tells its ports and logs, and goes
again, sync or async. ``from stackctl import Stack, AsyncStack`` is the public way in; it is resolved lazily there, so
that importing stackctl costs nothing. Beside the command line, not under it: neither imports the other, and both join
the same phases (read, plan, apply) with the same client. Why copies by default: tests that share a machine must not meet,
and a name, a port or a volume of one's own is what keeps them apart.
"""
