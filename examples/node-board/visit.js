// Leave a note at an address and read it again: node visit.js ADDRESS
const assert = require("node:assert");

(async () => {
  const [address] = process.argv.slice(2);
  const left = await fetch(address, { method: "POST", body: "hello" });
  assert.strictEqual(await left.json(), 1);
  const refused = await fetch(address, { method: "POST", body: " " });
  assert.strictEqual(refused.status, 400);
  assert.deepStrictEqual(await (await fetch(address)).json(), ["hello"]);
})();
