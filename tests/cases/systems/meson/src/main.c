#include "greet.h"
#include <stdio.h>
int main(void) { puts(greet()); return 0; }
