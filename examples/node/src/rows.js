// Rows out of pieces of CSV. A field in quotes may hold commas, line ends and doubled quotes.

import { Transform } from "node:stream";
import { StringDecoder } from "node:string_decoder";

const FIELD_LENGTH_MAX = 1 << 20;

export class CsvError extends Error {}

/** Takes bytes, gives arrays of strings. */
export class Rows extends Transform {
  #decoder = new StringDecoder("utf8");
  #row = [];
  #field = "";
  // start: nothing of a field yet; plain; quoted; quote: a quote inside quotes, which ends them or is half of a pair.
  #state = "start";
  #line = 1;

  constructor() {
    super({ readableObjectMode: true });
  }

  _transform(piece, _encoding, done) {
    done(this.#attempt(() => this.#take(this.#decoder.write(piece))));
  }

  _flush(done) {
    done(this.#attempt(() => {
      this.#take(this.#decoder.end());
      if (this.#state === "quoted") throw this.#error("the file ends inside quotes");
      if (this.#state !== "start" || this.#row.length > 0) this.#endRow();
    }));
  }

  #attempt(work) {
    try {
      work();
      return null;
    } catch (error) {
      return error;
    }
  }

  #take(text) {
    for (const character of text) {
      if (character === "\n") this.#line += 1;
      if (this.#state === "quoted") this.#inQuotes(character);
      else this.#outside(character);
    }
  }

  #inQuotes(character) {
    if (character === '"') this.#state = "quote";
    else this.#add(character);
  }

  #outside(character) {
    switch (character) {
      case '"':
        if (this.#state === "plain") throw this.#error("a quote in a field that does not begin with one");
        if (this.#state === "quote") this.#add(character);
        this.#state = "quoted";
        return;
      case ",":
        this.#endField();
        return;
      case "\r":
        return;
      case "\n":
        this.#endRow();
        return;
      default:
        if (this.#state === "quote") throw this.#error(`\`${character}\` after a closing quote`);
        this.#state = "plain";
        this.#add(character);
    }
  }

  #add(character) {
    if (this.#field.length >= FIELD_LENGTH_MAX) throw this.#error(`a field longer than ${FIELD_LENGTH_MAX}`);
    this.#field += character;
  }

  #endField() {
    this.#row.push(this.#field);
    this.#field = "";
    this.#state = "start";
  }

  #endRow() {
    this.#endField();
    this.push(this.#row);
    this.#row = [];
  }

  #error(message) {
    return new CsvError(`line ${this.#line}: ${message}`);
  }
}
