"""Runs the tests and leaves a report: `python3 -m tests DIRECTORY`."""

import json
import pathlib
import sys
import time
import unittest
from xml.etree import ElementTree


class Recorder(unittest.TextTestResult):
    """Keeps the name, time and ending of each test."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.cases = []

    def startTest(self, test):
        self.started = time.perf_counter()
        self.trouble = None
        super().startTest(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.trouble = ("failure", self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.trouble = ("error", self.errors[-1][1])

    def stopTest(self, test):
        self.cases.append((test.id(), time.perf_counter() - self.started, self.trouble))
        super().stopTest(test)


def junit(result: Recorder) -> ElementTree.ElementTree:
    suite = ElementTree.Element("testsuite", name="crc32", tests=str(len(result.cases)),
                                failures=str(len(result.failures)), errors=str(len(result.errors)))
    for name, seconds, trouble in result.cases:
        classname, _, method = name.rpartition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=classname, name=method, time=f"{seconds:.6f}")
        if trouble:
            ElementTree.SubElement(case, trouble[0]).text = trouble[1]
    return ElementTree.ElementTree(suite)


def main(directory: pathlib.Path) -> int:
    tests = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Recorder).run(tests)
    directory.mkdir(parents=True, exist_ok=True)
    junit(result).write(directory / "junit.xml", encoding="utf-8", xml_declaration=True)
    summary = {"tests": len(result.cases), "failures": len(result.failures), "errors": len(result.errors)}
    (directory / "summary.json").write_text(json.dumps(summary) + "\n")
    return 0 if result.wasSuccessful() and result.cases else 1


sys.exit(main(pathlib.Path(sys.argv[1])))
