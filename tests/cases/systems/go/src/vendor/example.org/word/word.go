package word

// Word is what is said.
func Word() string { return "hello" }
