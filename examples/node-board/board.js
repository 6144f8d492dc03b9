/** What people left, the newest first; it forgets the oldest. */
class Board {
  constructor(most = 100) {
    this.most = most;
    this.notes = [];
  }

  add(text) {
    const note = text.trim();
    if (!note) throw new RangeError("an empty note");
    this.notes = [note, ...this.notes].slice(0, this.most);
    return this.notes.length;
  }
}

module.exports = { Board };
