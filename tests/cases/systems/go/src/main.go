package main

import (
	"fmt"

	"example.org/word"
)

var version = "none"

func main() { fmt.Println(word.Word(), "from Go", version) }
