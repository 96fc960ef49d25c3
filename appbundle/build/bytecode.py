"""Makes byte code; a script that runs by the *tree's* interpreter and knows nothing of appb.

    python3 -s -S -B bytecode.py PREFIX LIST

LIST holds one path a line, as the running service will see it; the file itself is at PREFIX + path.
The .pyc is of the kind "unchecked hash": it names no time, and is believed without a look at the
source (PEP 552).

Each file is compiled by a child of its own. What marshal writes depends on how often a string is
used in the whole process, so a process that compiles several files gives each of them bytes that
depend on the others; a child that begins alike always gives the same.
"""

import os
import py_compile
import sys

_SAY_EVERY = 50


def compile_one(prefix: str, path: str) -> None:
    """Write the byte code of one file.

    Raises:
        py_compile.PyCompileError: It is not in this interpreter's language.
    """
    py_compile.compile(
        prefix + path,
        dfile=path,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def compile_alone(prefix: str, path: str) -> bool:
    """Compile one file in a child; gives whether there is byte code now."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        compile_one(prefix, path)
        status = 0
    except (py_compile.PyCompileError, RecursionError, MemoryError):
        pass  # Templates and tests of other languages: they just have no byte code.
    except OSError as error:
        sys.stderr.write(f"{path}: {error}\n")
        status = 2
    finally:
        os._exit(status)


def main(prefix: str, list_file: str) -> int:
    """Compile all files of a list, and print every now and then how many are done."""
    with open(list_file, encoding="utf-8") as file:
        paths = file.read().splitlines()
    for done, path in enumerate(paths, 1):
        compile_alone(prefix, path)
        if done % _SAY_EVERY == 0 or done == len(paths):
            print(done, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
