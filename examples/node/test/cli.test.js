// The program, as a process of its own.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../src/cli.js", import.meta.url));

function run(input) {
  return spawnSync(process.execPath, [program], { input, encoding: "utf8" });
}

test("rows become objects", () => {
  const { status, stdout } = run("name,size\nplum,3\npear\n");
  assert.equal(status, 0);
  assert.equal(stdout, '{"name":"plum","size":"3"}\n{"name":"pear","size":null}\n');
});

test("what is no CSV ends with a message", () => {
  const { status, stderr } = run('a\n"b');
  assert.equal(status, 1);
  assert.match(stderr, /^csv-to-json: line 2: the file ends inside quotes/);
});
