#!/usr/bin/env node
// Standard input as CSV, standard output as one JSON object per row; the first row has the names.

import { pipeline } from "node:stream/promises";

import { Rows } from "./rows.js";

async function* objects(rows) {
  let names;
  for await (const row of rows) {
    if (names) yield `${JSON.stringify(Object.fromEntries(names.map((name, at) => [name, row[at] ?? null])))}\n`;
    else names = row;
  }
}

try {
  await pipeline(process.stdin, new Rows(), objects, process.stdout);
} catch (error) {
  console.error(`csv-to-json: ${error.message}`);
  process.exitCode = 1;
}
