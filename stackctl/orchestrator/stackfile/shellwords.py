"""Text to words, for ``command`` and ``entrypoint`` in their text form."""

from stackctl.errors import InvalidInputError


def split(text: str) -> list[str]:
    """Return the words of a command; raises InvalidInputError where a quote or parenthesis stays open.

    Quotes group; a backslash takes the next character as it is, except in single quotes. ``;``, ``&``, ``|``, ``<``
    and ``>`` are ordinary characters: there is no shell, and dropping what follows them, as Compose does, would lose
    what the user wrote.
    """
    words: list[str] = []
    word = ""
    started = False
    quote = ""
    escaped = False
    for char in text:
        if escaped:
            word += char
            escaped = False
            started = True
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote in ("'", '"'):
            if char == quote:
                quote = ""
                started = True
            else:
                word += char
        elif char in ("'", '"') and not quote:
            quote = char
            started = True
        elif char == "`":
            quote = "" if quote == "`" else "`"
            word += char
            started = True
        elif char in " \t\r\n" and not quote:
            if started:
                words.append(word)
            word, started = "", False
        else:
            if char == "(" and not quote:
                if not word.endswith("$"):
                    raise _invalid(text)
                quote = ")"
            elif char == ")" and quote in ("", ")"):
                if not quote:
                    raise _invalid(text)
                quote = ""
            word += char
            started = True
    if quote or escaped:
        raise _invalid(text)
    if started:
        words.append(word)
    return words


def _invalid(text: str) -> InvalidInputError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return InvalidInputError(
        f"invalid command {shown!r}: a quote or parenthesis is not closed",
        hint="use the list form to avoid quoting",
    )
