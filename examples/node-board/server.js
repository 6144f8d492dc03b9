const http = require("node:http");
const { Board } = require("./board");

const board = new Board();

http
  .createServer((request, response) => {
    if (request.method !== "POST") {
      response.end(JSON.stringify(board.notes));
      return;
    }
    let text = "";
    request.setEncoding("utf8");
    request.on("data", (piece) => (text += piece));
    request.on("end", () => {
      try {
        response.end(JSON.stringify(board.add(text)));
      } catch (error) {
        response.writeHead(400).end(error.message);
      }
    });
  })
  .listen(Number(process.env.PORT || 3000));
