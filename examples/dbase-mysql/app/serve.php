<?php
// Serves the guest book: GET lists the guests, POST adds the one named in the body.
require __DIR__ . "/connect.php";

header("Content-Type: text/plain; charset=utf-8");
$connection = connect();
if ($_SERVER["REQUEST_METHOD"] === "POST") {
    $name = file_get_contents("php://input");
    $connection->execute_query("INSERT INTO guest (name) VALUES (?)", [$name]);
    echo "$name\n";
} else {
    foreach ($connection->query("SELECT name FROM guest ORDER BY id") as $row) {
        echo "$row[name]\n";
    }
}
