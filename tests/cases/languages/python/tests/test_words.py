import unittest

import words


class WordsTest(unittest.TestCase):
    def test_frequent_words_are_first(self) -> None:
        assert words.counted("b a b") == [("b", 2), ("a", 1)]
