<?php

declare(strict_types=1);

use Example\Words;
use PHPUnit\Framework\TestCase;

final class WordsTest extends TestCase
{
    public function testFrequentWordsAreFirst(): void
    {
        self::assertSame(['b' => 2, 'a' => 1], Words::counted('a b, B'));
    }

    public function testNothingHasNoWords(): void
    {
        self::assertSame([], Words::counted(' - '));
    }
}
