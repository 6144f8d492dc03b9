<?php
// The database, as the environment names it: the same while the image is built and when it runs.
function connect(): mysqli
{
    mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
    $given = fn(string $name): string => getenv("GUESTBOOK_$name");
    $connection = new mysqli($given("HOST"), $given("USER"), $given("PASSWORD"), $given("NAME"), (int) $given("PORT"));
    $connection->set_charset("utf8mb4");
    return $connection;
}
