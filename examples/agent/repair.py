"""Mends a file by small edits until its tests pass: `repair.py FILE -- COMMAND...`.

The tests are judged by how many lines begin with `FAIL:` or `ERROR:`, as Python's unittest writes them, and by their
exit status. Nothing but FILE is written.
"""

import ast
import pathlib
import subprocess
import sys
from typing import Iterator, NamedTuple

TEST_SECONDS_MAX = 30
ROUNDS_MAX = 5
# What takes longer than its time, or dies, is worse than any number of failed tests.
BROKEN = 1_000_000

COMPARISONS = {
    ast.Lt: ("<", ["<="]), ast.LtE: ("<=", ["<"]), ast.Gt: (">", [">="]), ast.GtE: (">=", [">"]),
    ast.Eq: ("==", ["!="]), ast.NotEq: ("!=", ["=="]),
}


class Edit(NamedTuple):
    """Text to put in the place of other text; offsets in characters."""

    start: int
    end: int
    text: str
    line: int

    def applied(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


def edits(source: str) -> Iterator[Edit]:
    """Every usual slip that this source could hold, undone."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        text = source[starts[line - 1] : starts[line]]
        return starts[line - 1] + len(text.encode()[:column].decode())

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            left = node.left
            for operator, right in zip(node.ops, node.comparators):
                written, others = COMPARISONS.get(type(operator), ("", []))
                begin = offset(left.end_lineno, left.end_col_offset)
                end = offset(right.lineno, right.col_offset)
                at = source.find(written, begin, end)
                for other in others:
                    yield Edit(at, at + len(written), other, left.end_lineno)
                left = right
        elif isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and node.right.value == 1:
            # `+ 1` and `- 1` that should not be there.
            begin = offset(node.left.end_lineno, node.left.end_col_offset)
            yield Edit(begin, offset(node.end_lineno, node.end_col_offset), "", node.lineno)
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            begin, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
            for value in (node.value - 1, node.value + 1):
                yield Edit(begin, end, str(value), node.lineno)


def failures(command: list[str]) -> int:
    """How many tests fail; 0 only when the command says that all is well."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TEST_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return BROKEN
    lines = (ended.stdout + ended.stderr).splitlines()
    failed = sum(it.startswith(("FAIL:", "ERROR:")) for it in lines)
    return failed if failed or ended.returncode == 0 else BROKEN


def round_of(file: pathlib.Path, command: list[str], failed: int) -> int:
    """Tries every edit of the file, leaves the best one in it, and says how many tests fail then."""
    before = best = file.read_text()
    for edit in edits(before):
        candidate = edit.applied(before)
        file.write_text(candidate)
        now = failures(command)
        if now < failed:
            print(f"line {edit.line}: `{before[edit.start:edit.end].strip()}` -> `{edit.text}`: {now} failing")
            failed, best = now, candidate
        if failed == 0:
            break
    file.write_text(best)
    return failed


def main(arguments: list[str]) -> int:
    if len(arguments) < 3 or arguments[1] != "--":
        print("usage: repair.py FILE -- COMMAND...", file=sys.stderr)
        return 2
    file, command = pathlib.Path(arguments[0]), arguments[2:]
    failed = failures(command)
    print(f"{failed} failing")
    for _ in range(ROUNDS_MAX):
        if failed == 0:
            print("the tests pass")
            return 0
        left = round_of(file, command, failed)
        if left == failed:
            break
        failed = left
    print(f"{failed} still failing, and no edit helps", file=sys.stderr)
    return 1


sys.exit(main(sys.argv[1:]))
