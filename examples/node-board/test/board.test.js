const test = require("node:test");
const assert = require("node:assert");
const { Board } = require("../board");

test("the newest note is the first", () => {
  const board = new Board(2);
  for (const note of ["one", " two ", "three"]) board.add(note);
  assert.deepStrictEqual(board.notes, ["three", "two"]);
});

test("an empty note is refused", () => {
  assert.throws(() => new Board().add("  "), RangeError);
});
