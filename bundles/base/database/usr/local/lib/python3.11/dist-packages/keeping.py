"""Snapshots of an app's databases in MariaDB, and how they are put back.

MariaDB has no transaction around changes of tables, but renames many at once or none. So a snapshot
is loaded beside what is there, into databases of its own, and takes its place in one statement.
Whoever is killed before that has changed nothing; whoever does it again begins anew.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pymysql

ACCOUNT = "/etc/my.cnf"
USE = re.compile(rb"USE `(?P<name>\w+)`;\n")


def snapshot(target: Path, done: Path, databases: Sequence[str]) -> None:
    """Keep databases as they are at one moment, while they are used.

    Args:
        target: The directory to make.
        done: What was done to them; it goes with them.
        databases: Their names.
    """
    target.mkdir(parents=True)
    with (target / "dump.sql").open("wb") as dump:
        # As one transaction; names of databases stand in lines of their own.
        options = ("--single-transaction", "--no-create-db", "--skip-add-locks", "--databases")
        subprocess.run(("/usr/bin/mariadb-dump", *options, *databases), stdout=dump, check=True)
    if done.exists():
        shutil.copyfile(done, target / "done")


def restore(source: Path, done: Path) -> None:
    """Put databases back as they were, all of them or, if that fails, none."""
    with (source / "dump.sql").open("rb") as dump:
        databases = [found["name"].decode() for line in dump if (found := USE.fullmatch(line))]
    remove(databases)
    for name in databases:
        for beside in (loaded(name), replaced(name)):
            execute(f"CREATE DATABASE `{beside}`")
    with (source / "dump.sql").open("rb") as dump:
        load(dump)
    moves = [
        f"`{old}`.`{table}` TO `{new}`.`{table}`"
        for name in databases
        for old, new in ((name, replaced(name)), (loaded(name), name))
        for table in tables(old)
    ]
    execute(f"RENAME TABLE {', '.join(moves)}")
    remove(databases)
    done.unlink(missing_ok=True)
    if (source / "done").exists():
        shutil.copyfile(source / "done", done)


def load(dump: IO[bytes]) -> None:
    """Have MariaDB's client execute a dump, with the databases that stand beside."""
    with subprocess.Popen(("/usr/bin/mariadb",), stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        for line in dump:
            found = USE.fullmatch(line)
            client.stdin.write(use(loaded(found["name"].decode())) if found else line)
        client.stdin.close()
    if client.returncode != 0:
        raise SystemExit(f"the snapshot was not loaded: status {client.returncode}")


def use(database: str) -> bytes:
    """The line after which a dump is of a database."""
    return f"USE `{database}`;\n".encode()


def loaded(database: str) -> str:
    """Where a snapshot is loaded: the account may have databases of this name."""
    return f"{database}_loaded"


def replaced(database: str) -> str:
    """Where go the tables whose place it takes."""
    return f"{database}_replaced"


def remove(databases: Sequence[str]) -> None:
    """Remove what stands beside, or was left there by one that was killed."""
    for name in databases:
        for beside in (loaded(name), replaced(name)):
            execute(f"DROP DATABASE IF EXISTS `{beside}`")


def tables(database: str) -> list[str]:
    """The names of a database's tables."""
    asked = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
    return [name for (name,) in execute(asked, database)]


def execute(statement: str, *values: str) -> Sequence[tuple]:
    """Execute one statement by the app's account; gives its rows."""
    with pymysql.connect(read_default_file=ACCOUNT) as connection:
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()
