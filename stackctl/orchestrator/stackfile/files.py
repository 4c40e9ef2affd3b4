"""Reading the files of a load: stack files, env files, label files; each noted where it is named when it cannot be."""

from collections.abc import Callable, Mapping

from stackctl.orchestrator.stackfile import discover, dotenv, reader
from stackctl.orchestrator.stackfile.marks import Mark, Source, shown
from stackctl.orchestrator.stackfile.problems import Problems

MAX_FILES = 2000
MAX_ALL_BYTES = 20 << 20


class Files:
    """The files of one load, counted so that they cannot multiply; ``stdin`` is asked for the file ``-``.

    The path of each that is asked for is noted in ``paths_read``, also where there is none.
    """

    def __init__(
        self,
        *,
        cwd: str,
        problems: Problems,
        stdin: Callable[[], bytes] | None = None,
        paths_read: dict[str, None],
    ) -> None:
        self.cwd = cwd
        self.problems = problems
        self.stdin = stdin
        self.paths_read = paths_read
        self.files_read = 0
        self.bytes_read = 0

    def read(
        self, path: str, mark: Mark | None = None
    ) -> tuple[Source, list[reader.Document]] | None:
        """Return a file's documents; a file that cannot be read is noted at ``mark``."""
        name = "-" if path == "-" else shown(path, self.cwd)
        source = Source(name=name, path=path)
        if discover.is_remote(path):
            self.problems.add_at(
                mark,
                f"{path}: {discover.remote_kind(path)} cannot be reached: stackctl reads local files only",
                hint="fetch it first and name the local file",
            )
            return None
        self.files_read += 1
        if self.files_read > MAX_FILES:
            if self.files_read == MAX_FILES + 1:
                self.problems.add_at(
                    mark, f"more than {MAX_FILES} files take part; includes may multiply"
                )
            return None
        if self.bytes_read > MAX_ALL_BYTES:
            return None
        data = b""
        self.paths_read[path] = None
        try:
            data = self.bytes_of(path)
            self.bytes_read += len(data)
            if len(data) > reader.MAX_BYTES or self.bytes_read > MAX_ALL_BYTES:
                self.too_large(mark, name, len(data))
                return None
            source.text = reader.decode(data)
        except UnicodeDecodeError as error:
            source.text = data.decode("utf-8", "replace")
            line = data.count(b"\n", 0, error.start) + 1
            start = data.rfind(b"\n", 0, error.start) + 1
            column = len(data[start : error.start].decode("utf-8", "replace")) + 1
            self.problems.add_in(
                source, line, column, "not UTF-8 text", hint="save the file as UTF-8"
            )
            return None
        except (OSError, ValueError) as error:
            self.missing(mark, name, getattr(error, "strerror", None) or str(error))
            return None
        before = len(self.problems.found)
        documents = reader.read(source, self.problems)
        self.problems.partial |= len(self.problems.found) != before
        return source, documents

    def bytes_of(self, path: str) -> bytes:
        if path != "-":
            with open(path, "rb") as file:
                return file.read(reader.MAX_BYTES + 1)
        return self.stdin() if self.stdin else b""

    def too_large(self, mark: Mark | None, name: str, size: int) -> None:
        """Note a file that is more than can be borne, alone or together with those read before."""
        if size > reader.MAX_BYTES:
            self.missing(mark, name, f"larger than {reader.MAX_BYTES >> 20} MiB")
        else:
            self.missing(
                mark, name, f"the files together are larger than {MAX_ALL_BYTES >> 20} MiB"
            )

    def missing(self, mark: Mark | None, name: str, reason: str) -> None:
        """Note a file that cannot be read, at the place that names it."""
        name = name.replace("\0", "\\0")
        if mark is None:
            self.problems.add_in(Source(name=name, path=name), 0, 0, reason)
        else:
            self.problems.add_at(mark, f"{name}: {reason}")

    def env_files(
        self, paths: list[str], environment: Mapping[str, str], mark: Mark | None = None
    ) -> dict[str, str] | None:
        """Return the variables of env files; one that cannot be read is noted."""
        values: dict[str, str] = {}
        for path in paths:
            text = self.env_text(path, mark)
            if text is None:
                return None
            try:
                dotenv.parse(text, values, environment.get)
            except dotenv.EnvFileError as error:
                source = Source(name=shown(path, self.cwd), path=path, text=text)
                self.problems.add_in(source, error.line, 1, str(error))
                return None
        return values

    def env_text(self, path: str, mark: Mark | None) -> str | None:
        """Return the text of an env or label file; one that cannot be read is noted."""
        name = shown(path, self.cwd)
        self.paths_read[path] = None
        try:
            with open(path, "rb") as file:
                data = file.read(dotenv.MAX_BYTES + 1)
            if len(data) <= dotenv.MAX_BYTES:
                return data.decode("utf-8")
            self.missing(mark, name, f"larger than {dotenv.MAX_BYTES >> 20} MiB")
        except UnicodeDecodeError:
            self.missing(mark, name, "not UTF-8 text")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.missing(
                mark, name, "env file not found" if isinstance(error, FileNotFoundError) else reason
            )
        return None
