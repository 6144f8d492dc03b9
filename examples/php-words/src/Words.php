<?php

declare(strict_types=1);

namespace Example;

final class Words
{
    /** @return array<string, int> words and how often they occur, the most frequent first */
    public static function counted(string $text): array
    {
        $counts = array_count_values(preg_split('/\W+/u', mb_strtolower($text), -1, PREG_SPLIT_NO_EMPTY));
        ksort($counts, SORT_STRING);
        arsort($counts);
        return $counts;
    }
}
