package example;

import static org.junit.Assert.assertEquals;

import java.util.List;
import java.util.Map;
import org.junit.Test;

public class TallyTest {
    @Test
    public void wordsAreCounted() {
        assertEquals(Map.of("a", 1, "b", 2), Tally.of(List.of("b", "a", "b")));
    }
}
