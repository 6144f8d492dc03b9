<?php
// Makes the tables of the guest book and fills them, while the image is built.
require __DIR__ . "/connect.php";

$connection = connect();
$connection->query("CREATE TABLE guest (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL UNIQUE)");
foreach (["Ada", "Grace", "Zoë"] as $name) {
    $connection->execute_query("INSERT INTO guest (name) VALUES (?)", [$name]);
}
