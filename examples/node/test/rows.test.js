// Rows come out whole, however the bytes are cut.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";

import { CsvError, Rows } from "../src/rows.js";

async function rows(...pieces) {
  const found = [];
  for await (const row of Readable.from(pieces.map((it) => Buffer.from(it))).pipe(new Rows())) found.push(row);
  return found;
}

async function refused(text, message) {
  const reader = new Rows();
  reader.resume();
  const ended = new Promise((resolve) => reader.once("error", resolve));
  reader.end(text);
  const error = await ended;
  assert.ok(error instanceof CsvError);
  assert.match(error.message, message);
}

test("plain rows", async () => {
  assert.deepEqual(await rows("a,b\n1,2\n"), [["a", "b"], ["1", "2"]]);
});

test("the last line may lack its end", async () => {
  assert.deepEqual(await rows("a\r\nb"), [["a"], ["b"]]);
});

test("empty fields are fields", async () => {
  assert.deepEqual(await rows(",\n"), [["", ""]]);
});

test("quotes hold commas, line ends and quotes", async () => {
  assert.deepEqual(await rows('"a,b","c\nd","e""f"\n'), [["a,b", "c\nd", 'e"f']]);
});

test("every cut gives the same rows", async () => {
  const bytes = Buffer.from('näme,"zwei ""Wörter"""\n"a\nb",€\n');
  const whole = await rows(bytes);
  for (let at = 0; at <= bytes.length; at += 1) {
    assert.deepEqual(await rows(bytes.subarray(0, at), bytes.subarray(at)), whole, `cut at ${at}`);
  }
});

test("what is no CSV is refused with its line", async () => {
  await refused('a\nb"c\n', /line 2: a quote in a field/);
  await refused('"a"b\n', /line 1: `b` after a closing quote/);
  await refused('"a', /ends inside quotes/);
});
