<?php

declare(strict_types=1);

require __DIR__ . '/../vendor/autoload.php';

header('Content-Type: text/plain; charset=utf-8');
foreach (Example\Words::counted((string) ($_GET['text'] ?? '')) as $word => $count) {
    echo "$count $word\n";
}
