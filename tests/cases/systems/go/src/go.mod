module example.org/greet

go 1.18

require example.org/word v1.0.0
