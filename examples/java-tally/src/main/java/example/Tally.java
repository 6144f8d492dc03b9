package example;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Counts words. */
public final class Tally {
    private Tally() {}

    static Map<String, Integer> of(List<String> words) {
        Map<String, Integer> counts = new TreeMap<>();
        words.forEach(word -> counts.merge(word, 1, Integer::sum));
        return counts;
    }

    public static void main(String[] words) {
        of(List.of(words)).forEach((word, count) -> System.out.println(word + " " + count));
    }
}
