const test = require("node:test");
const assert = require("node:assert");

test("the machine is Travis CI's", () => {
  assert.strictEqual(process.env.TRAVIS, "true");
  assert.strictEqual(process.env.TRAVIS_BUILD_DIR, process.cwd());
});
