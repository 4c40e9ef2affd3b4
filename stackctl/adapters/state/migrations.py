"""Numbered schema steps of the state store.

The number of the last step that was applied is the database's ``user_version``. A step is never changed once it was
released; what is wrong with it is put right by the next one.
"""

STEPS: tuple[str, ...] = (
    # 1: one document per object, in the order they were first saved.
    """
    CREATE TABLE record (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        position INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    CREATE TABLE setting (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
)
