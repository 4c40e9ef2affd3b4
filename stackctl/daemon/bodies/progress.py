"""Progress of pull, push, load and build as Docker's JSON lines; pure."""

from stackctl.engine.image_values import Progress
from stackctl.values import JsonObject

_WIDTH = 50


def line(step: Progress) -> JsonObject:
    """Return the line of one step; sizes in bytes."""
    if step.error:
        return error_line(step.error)
    if step.stream:
        return {"stream": step.stream}
    body: JsonObject = {}
    if step.aux is not None:
        body |= {"progressDetail": {}, "aux": step.aux}
    if step.status:
        body["status"] = step.status
    if step.current or step.total:
        detail: JsonObject = {"current": step.current}
        if step.total:
            detail["total"] = step.total
        body["progressDetail"] = detail
        body["progress"] = bar(step.current, step.total)
    elif step.id and not step.bare:
        body["progressDetail"] = {}
    if step.id:
        body["id"] = step.id
    return body


def error_line(message: str, *, code: int = 0) -> JsonObject:
    detail: JsonObject = {"message": message}
    if code:
        detail["code"] = code
    return {"errorDetail": detail, "error": message}


def bar(current: int, total: int) -> str:
    """Return the bar that clients of old print as it is."""
    if total <= 0:
        return human_size(current)
    done = min(current, total) * _WIDTH // total
    filled = f"{'=' * done}>{' ' * (_WIDTH - done)}"
    return f"[{filled}] {human_size(current):>8}/{human_size(total)}"


def human_size(size: float) -> str:
    """Return bytes with four significant digits and a decimal unit ("1.234MB")."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.4g}{unit}"
        size /= 1000
    return ""
