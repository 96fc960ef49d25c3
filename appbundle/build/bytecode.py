"""Makes byte code; a script that runs by the *tree's* interpreter and knows nothing of appb.

    python3 -s -S -B bytecode.py PREFIX LIST

LIST holds one path a line, as the running service will see it; the file itself is at PREFIX + path.
The .pyc is of the kind "unchecked hash": it names no time, and is believed without a look at the
source (PEP 552).

What marshal writes depends on which strings the whole process holds, so a process that has compiled
other files may give bytes that depend on those. A child therefore ends as soon as it has met a file
that leaves something behind (an error, a module that was loaded for an encoding), and the next one
begins as the first did. A child for each file would do too, but takes three times as long.
"""

import os
import py_compile
import sys
from collections.abc import Sequence

_SAY_EVERY = 50


def compile_one(prefix: str, path: str) -> bool:
    """Write the byte code of one file; False if it is not in this interpreter's language."""
    try:
        py_compile.compile(
            prefix + path,
            dfile=path,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except (py_compile.PyCompileError, RecursionError, MemoryError):
        return False  # Templates and tests of other languages: they just have no byte code.
    return True


def compile_some(prefix: str, paths: Sequence[str], start: int, pipe: int) -> None:
    """Compile from `start` on, as long as this process stays as it was.

    Args:
        pipe: Told how many are done, a line each time.
    """
    modules = len(sys.modules)
    for at in range(start, len(paths)):
        if at and at % _SAY_EVERY == 0:
            print(at, flush=True)
        clean = compile_one(prefix, paths[at]) and len(sys.modules) == modules
        os.write(pipe, b"%d\n" % (at + 1))
        if not clean:
            break


def in_child(prefix: str, paths: Sequence[str], start: int) -> int:
    """Do the same in a child; gives how many are done then.

    Raises:
        ChildProcessError: It could not write, or died.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            compile_some(prefix, paths, start, writer)
            status = 0
        except OSError as error:
            print(error.strerror, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read().split()
    done = int(said[-1]) if said else start
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise ChildProcessError(f"compiling {paths[done]} ended with status {status}")
    return done


def main(prefix: str, list_file: str) -> int:
    """Compile all files of a list, and print every now and then how many are done."""
    with open(list_file, encoding="utf-8") as file:
        paths = file.read().splitlines()
    os.umask(0o022)
    done = 0
    while done < len(paths):
        try:
            done = in_child(prefix, paths, done)
        except ChildProcessError as error:
            print(error, file=sys.stderr)
            return 1
    print(done, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
