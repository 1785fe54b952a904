"""Reads what a test suite printed: `results.py KIND LOG`.

Prints how many tests passed, failed and were skipped, and then the name of each one that failed or was skipped. KIND is
the form of the output: unittest, tap, cargo, automake or mksh.
"""

import pathlib
import re
import sys


def unittest(text):
    ran = re.search(r"^Ran (\d+) tests?", text, re.M)
    ending = re.search(r"^(?:OK|FAILED)(?: \((.*)\))?", text[ran.end() :], re.M) if ran else None
    if ending is None:
        return None
    counts = dict(it.split("=") for it in (ending[1] or "").split(", ") if "=" in it)
    failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0)) + int(counts.get("unexpected successes", 0))
    skipped = int(counts.get("skipped", 0))
    names = [f"failed {it}" for it in re.findall(r"^(?:FAIL|ERROR): (.*)$", text, re.M)]
    names += [f"skipped {it}" for it in re.findall(r"^(test\S+ \(\S+\)).*\.\.\. skipped", text, re.M)]
    return int(ran[1]) - failed - skipped, failed, skipped, names


def tap(text):
    passed, names = 0, []
    for bad, name, directive in re.findall(r"^(not )?ok \d+ ?(?:- )?(.*?)(?: # *((?:skip|todo).*))?$", text, re.M | re.I):
        # A test that is known to fail counts as one that passed, as TAP has it.
        if directive.lower().startswith("skip"):
            names.append(f"skipped {name}")
        elif bad and not directive:
            names.append(f"failed {name}")
        else:
            passed += 1
    planned = sum(int(it) for it in re.findall(r"^1\.\.(\d+)", text, re.M))
    if planned != passed + len(names):
        return None
    return passed, *by_kind(names), names


def cargo(text):
    ended = re.findall(r"^test result: .* (\d+) passed; (\d+) failed; (\d+) ignored", text, re.M)
    names = [f"failed {it}" for it in re.findall(r"^test (.*) \.\.\. FAILED$", text, re.M)]
    names += [f"skipped {it}" for it in re.findall(r"^test (.*) \.\.\. ignored", text, re.M)]
    if not ended:
        return None
    return *(sum(int(it[at]) for it in ended) for at in range(3)), names


def automake(text):
    results = re.findall(r"^(PASS|FAIL|SKIP|XFAIL|XPASS|ERROR): (\S+)", text, re.M)
    names = [f"skipped {name}" for kind, name in results if kind == "SKIP"]
    names += [f"failed {name}" for kind, name in results if kind in ("FAIL", "ERROR", "XPASS")]
    totals = sum(int(it) for it in re.findall(r"^# TOTAL: +(\d+)", text, re.M))
    if not results or totals != len(results):
        return None
    return len(results) - len(names), *by_kind(names), names


def mksh(text):
    # A test that is known to fail is `fail`, one that should not have failed `FAIL`.
    results = re.findall(r"^(pass|fail|FAIL) (\./check\.t:\S+)", text, re.M)
    names = [f"failed {name}" for kind, name in results if kind != "pass"]
    total = re.search(r"^Total passed: (\d+)", text, re.M)
    if total is None or int(total[1]) != len(results) - len(names):
        return None
    return len(results) - len(names), *by_kind(names), names


def by_kind(names):
    failed = sum(it.startswith("failed") for it in names)
    return failed, len(names) - failed


def main(kind, log):
    text = pathlib.Path(log).read_text(errors="replace").replace("\r", "")
    found = {"unittest": unittest, "tap": tap, "cargo": cargo, "automake": automake, "mksh": mksh}[kind](text)
    if found is None:
        print("? ? ?")
        return
    *counts, names = found
    print(*counts)
    print("\n".join(sorted(names)))


main(*sys.argv[1:])
